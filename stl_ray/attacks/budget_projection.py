"""Projection of perturbations onto the budget: the stored image lies at, or within, its budget.

One image at a time, on the CPU, in 8-bit levels and float64: clean image c of integers 0 to 255, radius r. In pixels
the squared norms of 8-bit images are integers below 2^53, so "never over the budget" is decided exactly, and an image
does not depend on its batch. `weight` is the factor of the budget's space for each value (ones in pixels).

1. `scale_within_box` (real levels): m = min(t |d|, room), the magnitude along the direction d after clipping to the
   box, with the unique t for which ||m|| = r. ||m||^2 is piecewise quadratic in t, so one sort gives t without
   iteration.
2. `round_down_and_fill` (integer levels): round every magnitude toward the clean image, which is never over the budget;
   then raise entries to the next level in order of the largest fraction lost, while the budget allows. Where all
   magnitudes are equal, as in FGSM, this mixes the two nearest levels at pixels drawn from the image's random stream.
"""

from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from stl_ray.attacks.budget import LEVELS, Budget, Store
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.randomness import stream
from stl_ray.errors import TensorError
from stl_ray.seeding import seed_of

UNDERSHOOT = {"u8": 0.02, "f32": 0.001}
"""Largest shortfall of a stored image at its budget, as a share of the budget."""

# Kept free below the budget: a float32 measurement must not find the image over it, and float32 pixels are rounded.
_MARGIN = {"u8": 1e-6, "f32": 1e-5}


class ProjectedImage(NamedTuple):
    """A stored image, and whether the projection put it at its budget."""

    levels: Tensor  # (3, H, W) float64 in 0 to 255, integers for u8
    at_budget: bool  # at most UNDERSHOOT below the budget


def scale_each(problem: Problem, change: Tensor) -> list[ProjectedImage]:
    """`scale_to_budget` of every image on its own, with its own random stream.

    Args:
        problem: the clean images.
        change: (B, 3, H, W) perturbations of [0, 1] pixels.

    Raises:
        TensorError: if a perturbation is not finite.
    """
    rows = zip(problem.levels, change.detach().cpu().to(torch.float64), problem.ids, strict=True)
    projected = []
    for clean, perturbation, name in rows:
        if not bool(perturbation.isfinite().all()):
            raise TensorError("not finite", item=name, expected="finite numbers")
        generator = stream(seed_of(problem.seed, name, "attack rounding"))
        projected.append(scale_to_budget(clean, perturbation * LEVELS, problem.budget, problem.store, generator))
    return projected


def scale_to_budget(
    clean: Tensor, change: Tensor, budget: Budget, store: Store, generator: torch.Generator
) -> ProjectedImage:
    """The image along `change` at the budget from `clean`, or as near to the budget as the box and the grid allow.

    In L2 the change is a direction of any length. In L_inf it is a point of the ball, in levels; only rounding and the
    box alter it.

    Args:
        clean: (3, H, W) float64 levels, integers 0 to 255.
        change: (3, H, W), finite, in levels; zeros stay zero.
        budget: never exceeded.
        store: storage of the image.
        generator: draws which of equal magnitudes go to the upper level.
    """
    change = change.to(torch.float64)
    radius = budget.radius_in_levels(clean)
    if budget.norm == "linf":
        levels = _within_linf(clean, change, radius, store)
        achieved = float((levels - clean).abs().max())
    else:
        levels, achieved = _scaled_along(clean, change, budget, radius, store, generator)
    return ProjectedImage(levels, at_budget=achieved > 0 and achieved >= (1 - UNDERSHOOT[store]) * radius)


def radius_of(change: Tensor, budget: Budget) -> float:
    """The norm of one image's change, (3, H, W) float64, in levels of the budget's space."""
    if budget.norm == "linf":
        return float(change.abs().max())
    return float((change * budget.weights(change)).square().sum().sqrt())


def at_radius(
    clean: Tensor, change: Tensor, radius: float, budget: Budget, store: Store, generator: torch.Generator
) -> Tensor:
    """Levels of the image along `change` at another radius than the budget's, in levels of the budget's space.

    Arguments as in `scale_to_budget`; `change` is a direction in both norms.
    """
    if budget.norm == "linf":
        return _within_linf(clean, change * (radius / radius_of(change, budget)), radius, store)
    return _scaled_along(clean, change, budget, radius, store, generator)[0]


def _scaled_along(
    clean: Tensor, direction: Tensor, budget: Budget, radius: float, store: Store, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Levels at the L2 budget along a direction, and the norm of the change in the budget's space."""
    inner = radius * (1 - _MARGIN[store])
    room = torch.where(direction > 0, LEVELS - clean, clean)
    weight = budget.weights(clean).expand_as(clean)
    magnitude = scale_within_box(direction * weight, room * weight, inner) / weight
    if store == "u8":
        magnitude = round_down_and_fill(magnitude, inner, generator, weight)
    levels = clean + magnitude * direction.sign()
    return levels, sqrt(float((magnitude * weight).square().sum()))


def _within_linf(clean: Tensor, change: Tensor, radius: float, store: Store) -> Tensor:
    if store == "u8":
        return (clean + change.clamp(-radius, radius).round()).clamp(0, LEVELS)
    inner = radius * (1 - _MARGIN[store])
    return (clean + change.clamp(-inner, inner)).clamp(0, LEVELS)


def scale_within_box(direction: Tensor, room: Tensor, radius: float) -> Tensor:
    """Magnitudes m = min(t |d|, room) with ||m|| = radius; m = room if the room is smaller than the radius.

    Args:
        direction: d, any shape, float64.
        room: largest magnitude of every entry, >= 0, same shape.
        radius: the L2 norm to reach, >= 0.
    """
    magnitude = torch.zeros_like(direction)
    moving = (direction != 0) & (room > 0)
    speed, limit = direction[moving].abs(), room[moving]
    # Entries in the order of their stops, at t = limit / speed.
    stop, order = (limit / speed).sort()
    stopped = (limit[order].square().cumsum(0) - limit[order].square()).clamp(
        min=0
    )  # squares of the entries stopped before this entry
    free = speed[order].square().flip(0).cumsum(0).flip(0)  # factor of t^2: this entry and all later entries
    at_stop = stopped + stop.square() * free  # ||m||^2 at the stop of this entry
    first = int((at_stop < radius**2).sum())  # the first entry still moving at the budget
    if first < len(stop):
        t = torch.sqrt((radius**2 - stopped[first]).clamp(min=0) / free[first])
        magnitude[moving] = torch.minimum(t * speed, limit)
    else:
        magnitude[moving] = limit
    return magnitude


def round_down_and_fill(
    magnitude: Tensor, radius: float, generator: torch.Generator, weight: Tensor | None = None
) -> Tensor:
    """Magnitudes rounded to an adjacent integer, with the largest L2 norm <= radius that greedy filling reaches.

    Args:
        magnitude: any shape, float64, >= 0, with norm <= radius up to rounding error.
        radius: upper bound of the L2 norm.
        generator: orders entries of equal fraction.
        weight: factor of every entry in the norm, same shape; None: ones.
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
