"""What to do with the places of a tile that would be empty: ask what an image that is left will ask next.

A tile that is not full costs what a full one does. An image whose next trials do not depend on each other unless one
succeeds may have several in the same tile; what comes after a success is forgotten, and the image's path is the same.
"""

import torch
from torch import Tensor


def fill_tile(left: Tensor, remaining: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Trials that fill whole tiles: the next one of every row, and trials after it in what places are to spare.

    Args:
        left: (N,) int64, rows of a batch, N >= 1.
        remaining: (N,) int64, trials that each may still have, >= 1.
        size: places of a tile.

    Returns:
        The row of every trial, and how many trials of that row come before it, (M,) int64 each, M >= N.
    """
    spare, ahead = -len(left) % size, 0
    rows, steps = [left], [torch.zeros_like(left)]
    while spare > 0:
        ahead += 1
        more = left[remaining > ahead][:spare]
        if len(more) == 0:
            break
        rows.append(more)
        steps.append(torch.full_like(more, ahead))
        spare -= len(more)
    return torch.cat(rows), torch.cat(steps)
