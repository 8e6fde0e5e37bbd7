"""Budgets: a direction becomes the 8-bit image at a given normalised L2 dissimilarity from the clean one.

One image at a time, on the CPU, in 8-bit levels: clean image c of integers 0 to 255, budget r = rel * ||c||. Squared
norms are integers below 2^53, so "never over the budget" is decided exactly, and no image sees its batch mates.

1. `fit` (real levels): m = min(t |d|, room), the magnitude along the direction d after clipping to the box, with the
   one t for which ||m|| = r. ||m||^2 is piecewise quadratic in t, so t comes from a sort, with no iteration.
2. `round_down_and_fill` (whole levels): round every magnitude toward the clean image, which is never over the budget,
   then raise to the next level in order of the largest fraction lost while the budget allows. Where every magnitude
   is the same, as in FGSM, this mixes the two nearest levels at pixels drawn from the image's own random stream.
"""

from math import floor, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

UNDER = 0.02  # a stored image may fall this share short of its budget
_MARGIN = 1e-6  # kept free below the budget, so that a measurement in float32 does not find the image over it


class Sized(NamedTuple):
    """An 8-bit image and whether it holds its budget."""

    levels: Tensor  # (C, H, W) float64, whole numbers 0 to 255
    reached: bool  # at most UNDER below the budget


def size_to_budget(clean: Tensor, direction: Tensor, dissimilarity: float, generator: torch.Generator) -> Sized:
    """The 8-bit image along `direction` whose dissimilarity from `clean` is the budget, or as near as it can be.

    Args:
        clean: (C, H, W) float64 levels, whole numbers 0 to 255.
        direction: (C, H, W), finite, of any length; zeros stay as they are.
        dissimilarity: budget ||x' - x|| / ||x||, > 0. The image is never over it.
        generator: draws which of equal magnitudes go to the upper level.
    """
    budget = dissimilarity * float(clean.square().sum().sqrt())
    radius = budget * (1 - _MARGIN)
    direction = direction.to(torch.float64)
    room = torch.where(direction > 0, 255 - clean, clean)
    magnitude = round_down_and_fill(fit(direction, room, radius), radius, generator)
    achieved = sqrt(float(magnitude.square().sum()))
    levels = clean + magnitude * direction.sign()
    return Sized(levels, reached=achieved > 0 and achieved >= (1 - UNDER) * budget)


def fit(direction: Tensor, room: Tensor, radius: float) -> Tensor:
    """Magnitudes m = min(t |d|, room) with ||m|| = radius; all the room there is where that is too little.

    Args:
        direction: d, any shape, float64.
        room: the largest magnitude of every entry, >= 0, same shape.
        radius: the L2 norm to reach, >= 0.
    """
    magnitude = torch.zeros_like(direction)
    moving = (direction != 0) & (room > 0)
    speed, limit = direction[moving].abs(), room[moving]
    # Entries in the order in which they meet their limit, at t = limit / speed.
    stop, order = (limit / speed).sort()
    stopped = (limit[order].square().cumsum(0) - limit[order].square()).clamp(min=0)  # by the entries before this one
    free = speed[order].square().flip(0).cumsum(0).flip(0)  # by t^2, by this entry and those after it
    at_stop = stopped + stop.square() * free  # ||m||^2 at the moment when this entry stops
    first = int((at_stop < radius**2).sum())  # the first entry that the budget leaves in motion
    if first < len(stop):
        t = torch.sqrt((radius**2 - stopped[first]).clamp(min=0) / free[first])
        magnitude[moving] = torch.minimum(t * speed, limit)
    else:
        magnitude[moving] = limit
    return magnitude


def round_down_and_fill(magnitude: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """Whole magnitudes, each the next below or above, with the largest L2 norm <= radius that greedy filling gives.

    Args:
        magnitude: any shape, float64, >= 0, with norm <= radius up to rounding error.
        radius: the L2 norm not to exceed.
        generator: orders entries that lose the same fraction.
    """
    flat = magnitude.flatten()
    whole = flat.floor()
    fraction, cost = flat - whole, 2 * whole + 1  # (k + 1)^2 - k^2
    shuffled = torch.randperm(len(flat), generator=generator)
    queue = shuffled[fraction[shuffled].argsort(descending=True, stable=True)]
    queue = queue[fraction[queue] > 0]
    allowance = floor(radius**2) - float(whole.square().sum())
    while len(queue) > 0:
        affordable = int((cost[queue].cumsum(0) <= allowance).sum())
        taken, rest = queue[:affordable], queue[affordable:]
        allowance -= float(cost[taken].sum())
        whole[taken] += 1
        queue = rest[cost[rest] <= allowance]
    return whole.reshape(magnitude.shape)
