"""FAB: the nearest adversarial image by projections onto linearised boundaries, biased toward the clean image.

Source: Croce, Hein 2020 (fast adaptive boundary attack), algorithm 1; alpha_max 0.1, eta 1.05, beta 0.9 as there.
"""

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.apgd import nth_other_class
from stl_ray.attacks.budget import Norm
from stl_ray.attacks.formulations import MinimumNorm
from stl_ray.attacks.geometry import length, per_image, rescaled
from stl_ray.attacks.linear_boundaries import likeliest_other_classes, logit_differences, nearest_boundary
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.randomness import normal, uniform

_ALPHA_MAX, _ETA, _BETA = 0.1, 1.05, 0.9
_NONE = 1e10  # the norm where no adversarial image was found


class FastAdaptiveBoundary(MinimumNorm):
    """FAB toward the nearest boundary of the likeliest other classes."""

    steps: int = Field(100, ge=1, description="projection steps of a run")
    restarts: int = Field(
        1, ge=1, description="runs: the first starts at the clean image, the others at a random point near it"
    )
    candidates: int = Field(
        10, ge=2, description="likeliest classes of the clean image that are considered, the predicted class included"
    )
    until_within: bool = Field(
        False, description="no further run for an image whose adversarial image is within the budget"
    )

    @property
    def total_restarts(self) -> int:
        """Runs per image."""
        return self.restarts

    def search(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `MinimumNorm.search`."""
        nearest, queries = problem.images.clone(), torch.zeros_like(problem.labels)
        norm = problem.images.new_full((len(nearest),), _NONE)
        for number in range(self.total_restarts):
            wanted = norm > problem.radius if self.until_within else torch.ones_like(norm, dtype=torch.bool)
            rows = wanted.nonzero()[:, 0]
            if len(rows) == 0:
                break
            here = problem.rows(rows)
            here = here.with_radius(torch.minimum(here.radius, norm[rows]))
            adversarial, distance, spent = here.looped(lambda tile, number=number: self._run(tile, number))
            better = distance < norm[rows]
            nearest[rows[better]], norm[rows[better]] = adversarial[better], distance[better]
            queries[rows] += spent
        return nearest, queries

    def classes(self, logits: Tensor, labels: Tensor, number: int) -> Tensor:
        """Classes considered in run `number`, (B, R)."""
        return likeliest_other_classes(logits, labels, self.candidates - 1)

    def random_start(self, number: int) -> bool:
        """Whether run `number` starts at a random point."""
        return number > 0

    def _run(self, tile: Problem, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Adversarial images of a full tile (the clean image where none was found), their norms, and passes."""
        images, labels = tile.images, tile.labels
        logits = tile.victim.logits(images)
        others = self.classes(logits, labels, number)
        nearest, best = images, images.new_full((len(images),), _NONE)
        if others.shape[1] == 0:
            return nearest, best, torch.ones_like(labels)
        current = (images + _near(tile, number)).clamp(0, 1) if self.random_start(number) else images
        for _ in range(self.steps):
            values, gradients = logit_differences(tile.victim, current, labels, others)
            _, value, gradient = nearest_boundary(values, gradients, tile.norm)
            offset = (gradient * current).flatten(1).sum(dim=1) - value  # the boundary is gradient . z = offset
            from_current = to_hyperplane(current, gradient, offset, tile.norm)
            from_clean = to_hyperplane(images, gradient, offset, tile.norm)
            near, far = (length(step, tile.norm).clamp(min=1e-8) for step in (from_current, from_clean))
            alpha = per_image((near / (near + far)).clamp(max=_ALPHA_MAX))
            current = ((current + _ETA * from_current) * (1 - alpha) + (images + _ETA * from_clean) * alpha).clamp(0, 1)
            wrong = tile.victim.logits(current).argmax(dim=1) != labels
            distance = length(current - images, tile.norm)
            closer = wrong & (distance < best)
            nearest, best = torch.where(per_image(closer), current, nearest), torch.where(closer, distance, best)
            current = torch.where(per_image(wrong), images + (current - images) * _BETA, current)
        # A misclassified clean image is its own nearest adversarial image.
        correct = logits.argmax(dim=1) == labels
        queries = torch.full_like(labels, 1 + self.steps * (1 + others.shape[1]))
        return torch.where(per_image(correct), nearest, images), torch.where(correct, best, _NONE), queries


class TargetedFastAdaptiveBoundary(FastAdaptiveBoundary):
    """FAB-T: FAB toward each of the likeliest other classes of the clean image in turn."""

    targets: int = Field(9, ge=1, description="likeliest other classes that are target classes")

    @property
    def total_restarts(self) -> int:
        """Runs per image."""
        return self.targets * self.restarts

    def classes(self, logits: Tensor, labels: Tensor, number: int) -> Tensor:
        """Target class of run `number`, (B, 1)."""
        others = likeliest_other_classes(logits, labels, 1)
        return (
            others
            if others.shape[1] == 0
            else nth_other_class(logits, labels, torch.full_like(labels, number // self.restarts))[:, None]
        )

    def random_start(self, number: int) -> bool:
        """Whether run `number` starts at a random point."""
        return number % self.restarts > 0


def _near(tile: Problem, number: int) -> Tensor:
    """A random perturbation of half of every image's radius."""
    shape = tuple(tile.images.shape[1:])
    if tile.norm == "l2":
        return rescaled(normal(tile.seeds, number, shape), tile.radius / 2)
    signed = 2 * uniform(tile.seeds, number, shape) - 1
    return signed * per_image(tile.radius / 2 / signed.flatten(1).abs().amax(dim=1))


def to_hyperplane(points: Tensor, gradient: Tensor, offset: Tensor, norm: Norm) -> Tensor:
    """The shortest step from every point to the hyperplane gradient . z = offset within the box [0, 1].

    If the box does not reach the hyperplane, the step ends as near to it as possible. In L2 the step is clip(t g), in
    L_inf clip(t sign g): in both, the progress toward the hyperplane is concave and piecewise linear in t, so Newton's
    method from t = 0 increases to the solution and passes every piece at most once.

    Args:
        points: (B, 3, H, W) in [0, 1].
        gradient: (B, 3, H, W).
        offset: (B,).
        norm: of the step.
    """
    x, w = points.flatten(1), gradient.flatten(1)
    missing = offset - (w * x).sum(dim=1)
    direction, gain, wanted = w * missing.sign()[:, None], w.abs(), missing.abs()
    speed = gain if norm == "l2" else (w != 0).to(w)
    room = torch.where(direction > 0, 1 - x, x)
    rates, most = gain * speed, gain * room
    t, before = torch.zeros_like(wanted), torch.full_like(wanted, -1)
    while bool((t > before).any()):
        free = t[:, None] * speed < room  # entries inside the box
        rate, gained = torch.where(free, rates, 0).sum(dim=1), torch.where(free, 0, most).sum(dim=1)
        t, before = torch.where(rate > 0, torch.maximum(t, (wanted - gained) / rate), t), t
    return (torch.minimum(t[:, None] * speed, room) * direction.sign()).view_as(points)
