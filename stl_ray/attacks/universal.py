"""Universal perturbations: one vector for all images, trained on the training split and applied to every shard.

`train` makes the vector; `with_vector` makes of the attack one that applies it. The vector's norm is the budget, and
clipping to the box takes a little from it, image by image. Two ways to train, which share nothing but this file's frame:

uap           the loop of Moosavi-Dezfooli et al. 2017, algorithm 1: DeepFool on each image that is not fooled yet
uap_gradient  ours: projected gradient ascent of the bounded loss of whole batches (after Shafahi et al. 2020)
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from stl_ray.attacks.base import Attack, AttackResult, Problem, Task, measured, stored_images
from stl_ray.attacks.budget import LEVELS, Budget, Store
from stl_ray.attacks.budget_projection import round_down_and_fill
from stl_ray.attacks.deepfool import DeepFool
from stl_ray.attacks.geometry import projected, steepest
from stl_ray.attacks.losses import cross_entropy, loss_gradient
from stl_ray.attacks.randomness import stream
from stl_ray.errors import ConfigError, TensorError
from stl_ray.models import Victim, predict
from stl_ray.seeding import seed_of

_BOUND = 9.0  # cross-entropy beyond which an image no longer pulls; Shafahi et al. 2020


class Universal(Attack):
    """An attack by one vector."""

    images: int = Field(1000, ge=1, description="training images, drawn by seed, that the vector is trained on")
    epochs: int = Field(5, ge=1, description="passes over them at most; the vector of the best one counts")
    fooled: float = Field(1.0, gt=0, le=1, description="share of them that is enough")
    _vector: Tensor | None = PrivateAttr(None)

    @abstractmethod
    def improve(self, vector: Tensor, problem: Problem, order: Sequence[int]) -> Tensor:
        """The vector, (1, 3, H, W), after one pass over images in an order.

        Args:
            vector: as it is, within the radius.
            problem: the images, the victim's own classes of them as labels, and one radius.
            order: of the images in this pass.
        """

    def train(self, victim: Victim, images: Tensor, *, budget: Budget, seed: int) -> Tensor:
        """One vector that fools the victim on these images, (3, H, W) float32 of [0, 1] pixels, within the budget.

        Args:
            victim: the classifier, in eval mode.
            images: (N, 3, H, W) float32 in [0, 1], of the training split.
            budget: l2 or linf: the vector's own norm.
            seed: the run seed, of the order in which images are seen.

        Raises:
            ConfigError: if the budget depends on the image.
        """
        self.check(budget, "f32")
        radius = budget.radius(images[:1]).expand(len(images))
        problem = Problem(
            victim, images, predict(victim, images), radius, torch.zeros_like(radius, dtype=torch.int64), budget.norm
        )
        vector = best = torch.zeros_like(images[:1])
        most = 0.0
        for epoch in range(self.epochs):
            generator = stream(seed_of(seed, f"epoch {epoch}", "universal perturbation"))
            vector = self.improve(vector, problem, torch.randperm(len(images), generator=generator).tolist())
            rate = fooling_rate(victim, images, vector)
            if rate >= most:
                best, most = vector, rate
            if rate >= self.fooled:
                break
        return best[0]

    def with_vector(self, vector: Tensor) -> Self:
        """The attack that applies a vector, (3, H, W)."""
        own = self.model_copy()
        own._vector = vector
        return own

    def check(self, budget: Budget, store: Store) -> None:
        """See `Attack.check`; a dissimilarity of each image is no budget of one vector."""
        super().check(budget, store)
        if budget.kind == "dissimilarity":
            raise ConfigError(
                "one vector has one norm",
                item=type(self).__name__,
                expected="linf, l2, or the dataset's mean dissimilarity",
            )

    def run(self, task: Task) -> AttackResult:
        """Add the vector, clip, measure.

        Raises:
            ConfigError: if there is no vector yet.
            TensorError: if the images have another size than the vector.
        """
        if self._vector is None:
            raise ConfigError("the vector is not trained", item=type(self).__name__, expected="train, then with_vector")
        if self._vector.shape != task.images.shape[1:]:
            raise TensorError(
                "the vector is of another size", expected=tuple(self._vector.shape), got=tuple(task.images.shape[1:])
            )
        change = vector_in_levels(self._vector, task.budget, task.store, task.seed)
        images = stored_images((task.levels + change).clamp(0, LEVELS), task)
        return measured(task, images, [None] * len(images), torch.zeros_like(task.labels))


def vector_in_levels(vector: Tensor, budget: Budget, store: Store, seed: int) -> Tensor:
    """The vector at its budget in 8-bit levels, (3, H, W) float64 on the CPU, whole for u8; never over the budget."""
    change = vector.detach().cpu().to(torch.float64) * LEVELS
    radius = budget.radius_in_levels(change)
    if budget.norm == "linf":
        return change.clamp(-radius, radius).round() if store == "u8" else change.clamp(-radius, radius) * (1 - 1e-5)
    weight = budget.weights(change).expand_as(change)
    norm = float((change * weight).square().sum().sqrt())
    change = change * ((1 - 1e-5) * radius / norm if norm > 0 else 0)
    if store == "f32":
        return change
    generator = stream(seed_of(seed, "vector", "attack rounding"))
    return change.sign() * round_down_and_fill(change.abs(), radius, generator, weight)


class UniversalDeepFool(Universal):
    """The original loop: DeepFool's smallest step for each image that the vector does not fool yet, in turn."""

    images: int = Field(100, ge=1, description="training images, drawn by seed, that the vector is trained on")
    fooled: float = Field(0.8, gt=0, le=1, description="share of them that is enough, as in the paper")
    steps: int = Field(10, ge=1, description="DeepFool's steps for an image at most")
    candidates: int = Field(10, ge=2, description="likeliest classes that DeepFool considers")

    def improve(self, vector: Tensor, problem: Problem, order: Sequence[int]) -> Tensor:
        """See `Universal.improve`."""
        deepfool = DeepFool(steps=self.steps, candidates=self.candidates)
        for index in order:
            row = torch.tensor([index], device=vector.device)
            # A sequence, not a batch: each image sees what those before it made of the vector.
            here = replace(problem.rows(row), fixed_tile=1)
            there = here.with_images((here.images + vector).clamp(0, 1))
            moved, _ = deepfool.search(there)  # the point itself where it is fooled already
            vector = projected(vector + moved - there.images, here.radius, problem.norm)
        return vector


class UniversalGradient(Universal):
    """Ours: steps along the mean gradient of a batch's loss, each image's bounded."""

    epochs: int = Field(20, ge=1, description="passes over them at most; the vector of the best one counts")
    batch: int = Field(64, ge=1, description="images of a step")
    relative_step: float = Field(0.1, gt=0, description="length of a step over the radius")

    def improve(self, vector: Tensor, problem: Problem, order: Sequence[int]) -> Tensor:
        """See `Universal.improve`."""
        for start in range(0, len(order), self.batch):
            rows = torch.tensor(order[start : start + self.batch], device=vector.device)
            here = problem.rows(rows)
            there = here.with_images((here.images + vector).clamp(0, 1))
            (gradient,) = there.looped(_bounded_gradient)
            total = gradient.sum(dim=0, keepdim=True)
            step = steepest(total, self.relative_step * here.radius[:1], problem.norm)
            vector = projected(vector + step, here.radius[:1], problem.norm)
        return vector


def _bounded_gradient(tile: Problem) -> tuple[Tensor]:
    return (loss_gradient(tile.victim, tile.images, tile.labels, _bounded)[1],)


def _bounded(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels).clamp(max=_BOUND)


def fooling_rate(victim: Victim, images: Tensor, vector: Tensor) -> float:
    """Share of images whose class another one becomes with the vector, (1, 3, H, W) or (3, H, W), added."""
    changed = predict(victim, (images + vector).clamp(0, 1)) != predict(victim, images)
    return float(changed.float().mean())
