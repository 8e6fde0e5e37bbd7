"""Speculative execution in spare slots of a tile: trials that an image may need next.

A partial tile costs as much as a full one. An image whose next trials depend on earlier ones only through a success may
have several trials in the same tile; trials after a success are dropped, so the image's path stays the same.
"""

import torch
from torch import Tensor


def fill_tile(left: Tensor, remaining: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Trials that fill whole tiles: the next trial of every row, then later trials in spare slots.

    Args:
        left: (N,) int64, rows of a batch, N >= 1.
        remaining: (N,) int64, trials that each row may still have, >= 1.
        size: slots of a tile.

    Returns:
        (M,) int64 row of every trial, and (M,) int64 number of trials of that row before it; M >= N.
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
