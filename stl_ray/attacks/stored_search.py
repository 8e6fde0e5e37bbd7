"""The nearest image that is misclassified as it will be stored, along the direction that a search found.

A search ends just across the decision boundary, and rounding to 8 bits leads back: most values of such a change are below
half a level. So rounding is part of the attack. Images at growing radii along the direction are rounded and shown to the
victim, from the radius that was found to the budget, and the interval in which the answer turns is halved. What is stored
is then a hundredth of its radius or a quarter of a level (L2), or one level (L_inf), beyond the last image that was right.
"""

from collections.abc import Generator
from math import ceil, floor

import torch
from torch import Tensor

from stl_ray.attacks.budget import LEVELS
from stl_ray.attacks.budget_projection import at_radius, radius_of
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.randomness import stream
from stl_ray.models import decided
from stl_ray.seeding import seed_of

_NARROW = 0.01  # of the radius
_LEAST = 0.25  # levels: in 8 bits a step of less changes hardly a value


def nearest_stored(problem: Problem, nearest: Tensor, found: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Misclassified images as stored and within the budget, the nearest along the directions of a search.

    Args:
        problem: the clean images, the budget and the storage.
        nearest: (B, 3, H, W) in [0, 1], where the search ended.
        found: (B,) bool, the images to which it found something; the others stay.

    Returns:
        (B, 3, H, W) images, at the budget where none was misclassified before; (B,) bool, whether they are
        misclassified; (B,) int64, passes through the victim.
    """
    clean, images = problem.levels, nearest.clone()
    change = nearest.detach().cpu().to(torch.float64) * LEVELS - clean
    wrong, passes = torch.zeros_like(found), torch.zeros_like(problem.labels)
    searches = {row: _search(problem, clean[row], change[row]) for row in found.nonzero()[:, 0].tolist()}
    radii = {row: next(search) for row, search in searches.items()}
    while radii:
        tried = [_image(problem, row, clean[row], change[row], radius) for row, radius in radii.items()]
        batch = problem.stored(torch.stack(tried))
        labels = problem.labels[list(radii)]
        answers = decided(problem.victim, batch, labels)
        misses = ((answers != labels) & (answers >= 0)).tolist()
        for row, image, misclassified in zip(list(radii), batch, misses, strict=True):
            if misclassified or not wrong[row]:
                images[row] = image
            wrong[row] |= misclassified
            passes[row] += 1
            try:
                radii[row] = searches[row].send(misclassified)
            except StopIteration:
                del radii[row]
    return images, wrong, passes


def _search(problem: Problem, clean: Tensor, change: Tensor) -> Generator[float, bool, None]:
    """The radii of one image, in levels of the budget's space."""
    budget = problem.budget
    start, largest = radius_of(change, budget), budget.radius_in_levels(clean)
    if budget.norm == "linf" and problem.store == "u8":
        return search_radii(ceil(start), round(largest), 1)
    return search_radii(start, largest, max(_NARROW * start, _LEAST if problem.store == "u8" else 0.0))


def search_radii(start: float, largest: float, step: float) -> Generator[float, bool, None]:
    """The radii to try, one after the other; to be sent whether the image there is misclassified.

    Args:
        start: the first radius.
        largest: the last one, which is the only one where `start` is beyond.
        step: the first increase, which then doubles, and the width at which an interval is narrow enough, as is a
            hundredth of the radius; of whole numbers all radii are whole.
    """
    radius = min(start, largest)
    right = None
    while not (yield radius):
        if radius >= largest:
            return
        right, radius = radius, min(radius + max(step, radius - start), largest)
    while right is not None and radius - right > max(step, _NARROW * right):
        middle = (right + radius) // 2 if step == floor(step) else (right + radius) / 2
        if (yield middle):
            radius = middle
        else:
            right = middle


def _image(problem: Problem, row: int, clean: Tensor, change: Tensor, radius: float) -> Tensor:
    """The image along a change at a radius, in levels; without rounding the point of the search keeps every bit."""
    if problem.store == "f32" and radius == radius_of(change, problem.budget):
        return clean + change
    generator = stream(seed_of(problem.seed, problem.ids[row], "attack rounding"))
    return at_radius(clean, change, radius, problem.budget, problem.store, generator)
