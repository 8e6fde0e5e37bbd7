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
            treats every item on its own. Padding items are zeros.
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
            tile = [torch.cat([t, t.new_zeros((size - real, *t.shape[1:]))]) for t in tile]
        pieces.append(tuple(output[:real] for output in function(*tile)))
    return pieces[0] if len(pieces) == 1 else tuple(torch.cat(outputs) for outputs in zip(*pieces, strict=True))
