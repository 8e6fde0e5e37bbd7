"""FAB: the nearest adversarial image by projections onto linearised boundaries, biased toward the clean image.

Source: Croce, Hein 2020 (fast adaptive boundary attack), algorithm 1; alpha_max 0.1, eta 1.05, beta 0.9 as there.
"""

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.apgd import nth_other_class
from stl_ray.attacks.base import Problem
from stl_ray.attacks.budget import Norm
from stl_ray.attacks.formulations import MinimumNorm
from stl_ray.attacks.geometry import length, per_image, rescaled
from stl_ray.attacks.linear_boundaries import differences, likeliest_others, nearest
from stl_ray.attacks.randomness import normal, uniform

_ALPHA_MAX, _ETA, _BETA = 0.1, 1.05, 0.9
_NONE = 1e10  # the norm of an image that was not found


class FastAdaptiveBoundary(MinimumNorm):
    """FAB toward the nearest of the likeliest other classes."""

    steps: int = Field(100, ge=1, description="projection steps of a start")
    restarts: int = Field(1, ge=1, description="starts: the first at the clean image, others at random near it")
    candidates: int = Field(
        10, ge=2, description="likeliest classes of the clean image to consider, its own among them"
    )
    until_within: bool = Field(False, description="no further start for an image that is found within the budget")

    @property
    def starts(self) -> int:
        """Runs on every image."""
        return self.restarts

    def search(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `MinimumNorm.search`."""
        found, queries = problem.images.clone(), torch.zeros_like(problem.labels)
        norm = problem.images.new_full((len(found),), _NONE)
        for number in range(self.starts):
            wanted = norm > problem.radius if self.until_within else torch.ones_like(norm, dtype=torch.bool)
            rows = wanted.nonzero()[:, 0]
            if len(rows) == 0:
                break
            here = problem.rows(rows)
            here = here.with_radius(torch.minimum(here.radius, norm[rows]))
            nearer, at, spent = here.looped(lambda tile, number=number: self._run(tile, number))
            better = at < norm[rows]
            found[rows[better]], norm[rows[better]] = nearer[better], at[better]
            queries[rows] += spent
        return found, queries

    def classes(self, logits: Tensor, labels: Tensor, number: int) -> Tensor:
        """The classes that run `number` considers, (B, R)."""
        return likeliest_others(logits, labels, self.candidates - 1)

    def random_start(self, number: int) -> bool:
        """Whether run `number` begins away from the clean image."""
        return number > 0

    def _run(self, tile: Problem, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Found images (the clean one where none), their norms, and passes, of a full tile."""
        images, labels = tile.images, tile.labels
        logits = tile.victim.logits(images)
        others = self.classes(logits, labels, number)
        found, best = images, images.new_full((len(images),), _NONE)
        if others.shape[1] == 0:
            return found, best, torch.ones_like(labels)
        current = (images + _near(tile, number)).clamp(0, 1) if self.random_start(number) else images
        for _ in range(self.steps):
            values, gradients = differences(tile.victim, current, labels, others)
            _, value, gradient = nearest(values, gradients, tile.norm)
            offset = (gradient * current).flatten(1).sum(dim=1) - value  # the boundary is gradient . z = offset
            here = to_hyperplane(current, gradient, offset, tile.norm)
            home = to_hyperplane(images, gradient, offset, tile.norm)
            near, far = (length(step, tile.norm).clamp(min=1e-8) for step in (here, home))
            alpha = per_image((near / (near + far)).clamp(max=_ALPHA_MAX))
            current = ((current + _ETA * here) * (1 - alpha) + (images + _ETA * home) * alpha).clamp(0, 1)
            wrong = tile.victim.logits(current).argmax(dim=1) != labels
            distance = length(current - images, tile.norm)
            closer = wrong & (distance < best)
            found, best = torch.where(per_image(closer), current, found), torch.where(closer, distance, best)
            current = torch.where(per_image(wrong), images + (current - images) * _BETA, current)
        # What was wrong from the start has no nearest adversarial image but itself.
        right = logits.argmax(dim=1) == labels
        queries = torch.full_like(labels, 1 + self.steps * (1 + others.shape[1]))
        return torch.where(per_image(right), found, images), torch.where(right, best, _NONE), queries


class TargetedFastAdaptiveBoundary(FastAdaptiveBoundary):
    """FAB-T: FAB toward each of the likeliest other classes of the clean image in turn."""

    targets: int = Field(9, ge=1, description="likeliest other classes to aim at")

    @property
    def starts(self) -> int:
        """Runs on every image."""
        return self.targets * self.restarts

    def classes(self, logits: Tensor, labels: Tensor, number: int) -> Tensor:
        """The one class of run `number`, (B, 1)."""
        others = likeliest_others(logits, labels, 1)
        return (
            others
            if others.shape[1] == 0
            else nth_other_class(logits, labels, torch.full_like(labels, number // self.restarts))[:, None]
        )

    def random_start(self, number: int) -> bool:
        """Whether run `number` begins away from the clean image."""
        return number % self.restarts > 0


def _near(tile: Problem, number: int) -> Tensor:
    """A random perturbation of half of every image's radius."""
    shape = tuple(tile.images.shape[1:])
    if tile.norm == "l2":
        return rescaled(normal(tile.seeds, number, shape), tile.radius / 2)
    signed = 2 * uniform(tile.seeds, number, shape) - 1
    return signed * per_image(tile.radius / 2 / signed.flatten(1).abs().amax(dim=1))


def to_hyperplane(points: Tensor, gradient: Tensor, offset: Tensor, norm: Norm) -> Tensor:
    """The shortest step from every point to gradient . z = offset within the box [0, 1]; as near as it can be.

    In L2 the step is clip(t g), in L_inf clip(t sign g): in both the way gained is concave and piecewise linear in t.
    Newton's method from t = 0 goes up to the right t and ends there, for every piece is passed at most once.

    Args:
        points: (B, 3, H, W) in [0, 1].
        gradient: (B, 3, H, W).
        offset: (B,).
        norm: that the step is shortest in.
    """
    x, w = points.flatten(1), gradient.flatten(1)
    missing = offset - (w * x).sum(dim=1)
    direction, gain, wanted = w * missing.sign()[:, None], w.abs(), missing.abs()
    speed = gain if norm == "l2" else (w != 0).to(w)
    room = torch.where(direction > 0, 1 - x, x)
    rates, most = gain * speed, gain * room
    t, before = torch.zeros_like(wanted), torch.full_like(wanted, -1)
    while bool((t > before).any()):
        free = t[:, None] * speed < room  # those that have not met the box
        rate, gained = torch.where(free, rates, 0).sum(dim=1), torch.where(free, 0, most).sum(dim=1)
        t, before = torch.where(rate > 0, torch.maximum(t, (wanted - gained) / rate), t), t
    return (torch.minimum(t[:, None] * speed, room) * direction.sign()).view_as(points)
