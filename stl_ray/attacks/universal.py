"""Universal perturbations: one vector for all images, trained on the training split and applied to every shard.

`train` computes the vector; `with_vector` returns the attack that applies it. The budget bounds the norm of the vector;
clipping to the box makes the perturbation of an image slightly smaller. Two trainings:

uap           Moosavi-Dezfooli et al. 2017, algorithm 1: DeepFool on each image that is not fooled yet
uap_gradient  projected gradient ascent on the bounded loss of whole batches (after Shafahi et al. 2020)
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from stl_ray.attacks.answers import AnswerRecord
from stl_ray.attacks.base import Attack
from stl_ray.attacks.budget import LEVELS, Budget, Store
from stl_ray.attacks.budget_projection import round_down_and_fill
from stl_ray.attacks.deepfool import DeepFool
from stl_ray.attacks.geometry import projected, steepest
from stl_ray.attacks.losses import cross_entropy, loss_gradient
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.randomness import stream
from stl_ray.attacks.result import AttackResult, AttackStatus, measure
from stl_ray.errors import ConfigError, TensorError
from stl_ray.models import Victim, predict
from stl_ray.models.inference_mode import outside_inference, without_inference
from stl_ray.seeding import seed_of

_BOUND = 9.0  # bound of the cross-entropy of an image; Shafahi et al. 2020


class Universal(Attack):
    """An attack with one perturbation for all images."""

    images: int = Field(1000, ge=1, description="number of training images, drawn by seed")
    epochs: int = Field(
        5, ge=1, description="largest number of passes over the images; the vector of the best pass counts"
    )
    fooled: float = Field(1.0, gt=0, le=1, description="fooling rate at which training stops")
    _vector: Tensor | None = PrivateAttr(None)

    @abstractmethod
    def improve(self, vector: Tensor, problem: Problem, order: Sequence[int]) -> Tensor:
        """The vector, (1, 3, H, W), after one pass over the images.

        Args:
            vector: the current vector, within the radius.
            problem: the images, with the victim's predictions as labels, and one radius.
            order: permutation of the images in this pass.
        """

    def train(self, victim: Victim, images: Tensor, *, budget: Budget, seed: int) -> Tensor:
        """A vector that fools the victim on these images, (3, H, W) float32 of [0, 1] pixels, within the budget.

        Args:
            victim: the classifier, in eval mode.
            images: (N, 3, H, W) float32 in [0, 1], from the training split.
            budget: l2 or linf: norm of the vector.
            seed: the run seed, for the order of the images.

        Raises:
            ConfigError: if the budget depends on the image.
            TensorError: if no image has a gradient, and some are not finite; others without one count for nothing.
        """
        with outside_inference():
            return self._trained(victim, without_inference(images), budget, seed)

    def _trained(self, victim: Victim, images: Tensor, budget: Budget, seed: int) -> Tensor:
        self.check(budget, "f32")
        labels = predict(victim, images)
        problem = Problem(
            victim=victim,
            images=images,
            labels=labels,
            radius=budget.radius(images[:1]).expand(len(images)),
            seeds=torch.zeros_like(labels),
            correct=torch.ones_like(labels, dtype=torch.bool),
            budget=budget,
            store="f32",
            ids=[str(row) for row in range(len(images))],
            seed=seed,
            record=(record := AnswerRecord.of(torch.zeros_like(labels, dtype=torch.bool))),
            places=torch.arange(len(images), device=images.device),
        )
        vector = best = torch.zeros_like(images[:1])
        best_rate = 0.0
        for epoch in range(self.epochs):
            generator = stream(seed_of(seed, f"epoch {epoch}", "universal perturbation"))
            vector = self.improve(vector, problem, torch.randperm(len(images), generator=generator).tolist())
            rate = fooling_rate(victim, images, vector)
            if rate >= best_rate:
                best, best_rate = vector, rate
            if rate >= self.fooled:
                break
        if bool(record.broken.any()) and not bool(record.nonzero.any()):
            raise TensorError("not finite for any image", item="the victim's gradient", expected="finite numbers")
        return best[0]

    def with_vector(self, vector: Tensor) -> Self:
        """The attack that applies a vector, (3, H, W)."""
        attack = self.model_copy()
        attack._vector = vector
        return attack

    def check(self, budget: Budget, store: Store) -> None:
        """See `Attack.check`; a per-image dissimilarity cannot bound one vector."""
        super().check(budget, store)
        if budget.kind == "dissimilarity":
            raise ConfigError(
                "one vector has one norm",
                item=type(self).__name__,
                expected="linf, l2, or the dataset's mean dissimilarity",
            )

    def run(self, problem: Problem) -> AttackResult:
        """Add the vector, clip, measure.

        Raises:
            ConfigError: if the vector is not trained.
            TensorError: if images and vector differ in size.
        """
        if self._vector is None:
            raise ConfigError("the vector is not trained", item=type(self).__name__, expected="train, then with_vector")
        if self._vector.shape != problem.images.shape[1:]:
            raise TensorError(
                "the vector is of another size", expected=tuple(self._vector.shape), got=tuple(problem.images.shape[1:])
            )
        change = vector_in_levels(self._vector, problem.budget, problem.store, problem.seed)
        images = problem.stored((problem.levels + change).clamp(0, LEVELS))
        status = None if bool(change.any()) else AttackStatus.NO_GRADIENT
        return measure(problem, images, [status] * len(images), torch.zeros_like(problem.labels))


def vector_in_levels(vector: Tensor, budget: Budget, store: Store, seed: int) -> Tensor:
    """The vector at its budget in 8-bit levels, (3, H, W) float64 on the CPU, integers for u8; never over it."""
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
    """The original algorithm: a DeepFool step for each image that the vector does not fool yet, in turn."""

    images: int = Field(100, ge=1, description="number of training images, drawn by seed")
    fooled: float = Field(0.8, gt=0, le=1, description="fooling rate at which training stops, as in the paper")
    steps: int = Field(10, ge=1, description="largest number of DeepFool steps per image")
    candidates: int = Field(10, ge=2, description="likeliest classes considered by DeepFool")

    def improve(self, vector: Tensor, problem: Problem, order: Sequence[int]) -> Tensor:
        """See `Universal.improve`."""
        deepfool = DeepFool(steps=self.steps, candidates=self.candidates)
        for index in order:
            row = torch.tensor([index], device=vector.device)
            # A sequence, not a batch: every image sees the vector after all earlier images.
            clean = replace(problem.rows(row), fixed_tile=1)
            perturbed = clean.with_images((clean.images + vector).clamp(0, 1))
            nearest, _ = deepfool.search(perturbed)  # the perturbed image itself where it is already fooled
            vector = projected(vector + nearest - perturbed.images, clean.radius, problem.norm)
        return vector


class UniversalGradient(Universal):
    """Gradient ascent on the batch mean of the bounded loss."""

    epochs: int = Field(
        20, ge=1, description="largest number of passes over the images; the vector of the best pass counts"
    )
    batch: int = Field(64, ge=1, description="images per step")
    relative_step: float = Field(0.1, gt=0, description="step length as a share of the radius")

    def improve(self, vector: Tensor, problem: Problem, order: Sequence[int]) -> Tensor:
        """See `Universal.improve`."""
        for start in range(0, len(order), self.batch):
            rows = torch.tensor(order[start : start + self.batch], device=vector.device)
            clean = problem.rows(rows)
            perturbed = clean.with_images((clean.images + vector).clamp(0, 1))
            (gradient,) = perturbed.looped(_bounded_gradient)
            total = gradient.sum(dim=0, keepdim=True)
            step = steepest(total, self.relative_step * clean.radius[:1], problem.norm)
            vector = projected(vector + step, clean.radius[:1], problem.norm)
        return vector


def _bounded_gradient(tile: Problem) -> tuple[Tensor]:
    return (loss_gradient(tile.victim, tile.images, tile.labels, _bounded)[1],)


def _bounded(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels).clamp(max=_BOUND)


def fooling_rate(victim: Victim, images: Tensor, vector: Tensor) -> float:
    """Share of images whose predicted class changes, and is not refused, when the vector, (1 or none, 3, H, W), is added."""
    before = predict(victim, images)
    changed = predict(victim, (images + vector).clamp(0, 1), before) != before
    return float(changed.float().mean())
