"""Budgets kept: a perturbation becomes the stored image at, or within, its budget.

One image at a time, on the CPU, in 8-bit levels and float64: clean image c of integers 0 to 255, radius r. In pixels the
squared norms of 8-bit images are integers below 2^53, so "never over the budget" is decided exactly, and no image sees
its batch mates. `weight` is what the budget's space multiplies a change by (ones in pixels).

1. `fit` (real levels): m = min(t |d|, room), the magnitude along the direction d after clipping to the box, with the
   one t for which ||m|| = r. ||m||^2 is piecewise quadratic in t, so t comes from a sort, with no iteration.
2. `round_down_and_fill` (whole levels): round every magnitude toward the clean image, which is never over the budget,
   then raise to the next level in order of the largest fraction lost while the budget allows. Where every magnitude
   is the same, as in FGSM, this mixes the two nearest levels at pixels drawn from the image's own random stream.
"""

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from stl_ray.attacks.budget import LEVELS, Budget, Store

UNDER = {"u8": 0.02, "f32": 0.001}
"""A stored image may fall this share short of its budget."""

# Kept free below the budget, so that a measurement in float32 does not find the image over it; float32 pixels are
# rounded besides.
_MARGIN = {"u8": 1e-6, "f32": 1e-5}


class ProjectedImage(NamedTuple):
    """An image to be stored and whether it holds its budget."""

    levels: Tensor  # (3, H, W) float64 in 0 to 255, whole for u8
    reached: bool  # at most UNDER below the budget


def scale_to_budget(
    clean: Tensor, change: Tensor, budget: Budget, store: Store, generator: torch.Generator
) -> ProjectedImage:
    """The image along `change` whose distance from `clean` is the budget, or as near as it can be.

    In L2 the change is a direction of any length. In L_inf it is a point of the ball, in levels, and stays what it is
    but for rounding and the box.

    Args:
        clean: (3, H, W) float64 levels, whole numbers 0 to 255.
        change: (3, H, W), finite, in levels; zeros stay as they are.
        budget: the image is never over it.
        store: what the image is stored as.
        generator: draws which of equal magnitudes go to the upper level.
    """
    change = change.to(torch.float64)
    radius = budget.radius_in_levels(clean)
    if budget.norm == "linf":
        levels = _within_linf(clean, change, radius, store)
        achieved = float((levels - clean).abs().max())
    else:
        levels, achieved = _along(clean, change, budget, radius, store, generator)
    return ProjectedImage(levels, reached=achieved > 0 and achieved >= (1 - UNDER[store]) * radius)


def project_into_budget(
    clean: Tensor, change: Tensor, budget: Budget, store: Store, generator: torch.Generator
) -> ProjectedImage:
    """The image at `change` from `clean` where that is within the budget, else the one on the budget along it.

    Arguments as those of `scale_to_budget`, but the change is a point in either norm, with its length. `reached` says
    that it had to be cut.
    """
    change = change.to(torch.float64)
    radius = budget.radius_in_levels(clean)
    point = (clean + change).clamp(0, LEVELS)
    levels = point.round() if store == "u8" else point
    weight = budget.weights(clean)
    if budget.norm == "linf":
        cut = float((levels - clean).abs().max()) > (1 - _MARGIN[store]) * radius
        return ProjectedImage(_within_linf(clean, change, radius, store) if cut else levels, reached=cut)
    if float(((levels - clean) * weight).square().sum().sqrt()) <= (1 - _MARGIN[store]) * radius:
        return ProjectedImage(levels, reached=False)
    return ProjectedImage(_along(clean, change, budget, radius, store, generator)[0], reached=True)


def _along(
    clean: Tensor, direction: Tensor, budget: Budget, radius: float, store: Store, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Levels on the L2 budget along a direction, and the norm that they have in the budget's space."""
    inner = radius * (1 - _MARGIN[store])
    room = torch.where(direction > 0, LEVELS - clean, clean)
    weight = budget.weights(clean).expand_as(clean)
    magnitude = fit(direction * weight, room * weight, inner) / weight
    if store == "u8":
        magnitude = round_down_and_fill(magnitude, inner, generator, weight)
    levels = clean + magnitude * direction.sign()
    return levels, sqrt(float((magnitude * weight).square().sum()))


def _within_linf(clean: Tensor, change: Tensor, radius: float, store: Store) -> Tensor:
    if store == "u8":
        return (clean + change.clamp(-radius, radius).round()).clamp(0, LEVELS)
    inner = radius * (1 - _MARGIN[store])
    return (clean + change.clamp(-inner, inner)).clamp(0, LEVELS)


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


def round_down_and_fill(
    magnitude: Tensor, radius: float, generator: torch.Generator, weight: Tensor | None = None
) -> Tensor:
    """Whole magnitudes, each the next below or above, with the largest L2 norm <= radius that greedy filling gives.

    Args:
        magnitude: any shape, float64, >= 0, with norm <= radius up to rounding error.
        radius: the L2 norm not to exceed.
        generator: orders entries that lose the same fraction.
        weight: of every entry in the norm, same shape; ones when absent.
    """
    flat = magnitude.flatten()
    square = torch.ones_like(flat) if weight is None else weight.flatten().square()
    whole = flat.floor()
    fraction, cost = flat - whole, (2 * whole + 1) * square  # (k + 1)^2 - k^2
    shuffled = torch.randperm(len(flat), generator=generator)
    queue = shuffled[fraction[shuffled].argsort(descending=True, stable=True)]
    queue = queue[fraction[queue] > 0]
    allowance = radius**2 - float((whole.square() * square).sum())
    while len(queue) > 0:
        affordable = int((cost[queue].cumsum(0) <= allowance).sum())
        taken, rest = queue[:affordable], queue[affordable:]
        allowance -= float(cost[taken].sum())
        whole[taken] += 1
        queue = rest[cost[rest] <= allowance]
    return whole.reshape(magnitude.shape)
