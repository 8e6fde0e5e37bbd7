"""Work in tiles of one fixed size, so that what becomes of an image does not depend on its batch mates.

Numerical libraries choose their kernels by the shape of a batch; a fixed shape fixes the choice.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def in_tiles(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor, size: int) -> tuple[Tensor, ...]:
    """Apply `function` to tiles of exactly `size` items and join what it returns.

    Args:
        function: takes one (size, ...) tensor for each of `tensors`, returns a tuple of (size, ...) tensors, and
            treats every item on its own. The last tile is filled up with copies of its first item: a made-up one, such as
            a black image, may have no finite answer, and a copy takes no longer than what it is a copy of.
        tensors: (B, ...) tensors with the same B >= 1.
        size: items per tile.

    Returns:
        The function's outputs, each (B, ...).
    """
    total = tensors[0].shape[0]
    pieces: list[tuple[Tensor, ...]] = []
    for start in range(0, total, size):
        tile = [tensor[start : start + size] for tensor in tensors]
        real = tile[0].shape[0]
        if real < size:
            tile = [filled(tensor, size) for tensor in tile]
        pieces.append(tuple(output[:real] for output in function(*tile)))
    return pieces[0] if len(pieces) == 1 else tuple(torch.cat(outputs) for outputs in zip(*pieces, strict=True))


def filled(items: Tensor, size: int) -> Tensor:
    """1 to `size` items, filled up to `size` with copies of the first."""
    missing = size - len(items)
    return items if missing == 0 else torch.cat([items, items[:1].expand(missing, *items.shape[1:])])
