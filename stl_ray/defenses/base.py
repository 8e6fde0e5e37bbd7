"""The interface of a defense: an image in, the image that the classifier sees out, and the record of the solve."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd import Function

from stl_ray.config import Gradient
from stl_ray.errors import GradientError, TensorError
from stl_ray.images import quantize
from stl_ray.models import Victim
from stl_ray.options import nearest
from stl_ray.seeding import seeds_of

APPLIED = "applied"
"""Status of an image behind a defense that has only one outcome."""

DIVERGED = "diverged"
"""Status of an image whose solve did not stay finite: it has no purified image."""

NO_VERDICT = -1
"""Prediction for an image whose solve diverged; it is wrong whatever the label."""


@dataclass(frozen=True)
class Purified:
    """Images behind a defense, one entry per image."""

    images: Tensor  # (B, 3, H, W) in [0, 1], before they are rounded to 8 bits
    cluster: Tensor  # (B,) int16, whose dictionary was used; -1: none
    iterations: Tensor  # (B,) int16, of the solver; 0: none
    status: list[str]  # of the solve (converged, max_iterations, diverged), or applied
    sparsity: Tensor  # (B,) float32, share of non-zero coefficients; NaN: there are none

    @classmethod
    def without_solver(cls, images: Tensor) -> "Purified":
        """The record of a defense that has neither clusters nor a solver."""
        count, device = len(images), images.device
        return cls(
            images=images,
            cluster=torch.full((count,), -1, dtype=torch.int16, device=device),
            iterations=torch.zeros(count, dtype=torch.int16, device=device),
            status=[APPLIED] * count,
            sparsity=torch.full((count,), torch.nan, device=device),
        )

    @property
    def diverged(self) -> Tensor:
        """(B,) bool: the images whose solve diverged."""
        return torch.tensor([status == DIVERGED for status in self.status], device=self.images.device)


@dataclass(frozen=True)
class Decisions:
    """Verdicts of a defended model on stored images, one entry per image."""

    prediction: Tensor  # (B,) int64 class, or NO_VERDICT
    status: list[str]  # how the defense ended
    purified: Purified  # what the classifier was shown, before rounding


@runtime_checkable
class DefendedModel(Victim, Protocol):
    """A model with its defense: a `Victim` for attacks, and `decide`, the one source of verdicts."""

    def decide(self, images: Tensor, ids: Sequence[str]) -> Decisions:
        """The verdicts of the deployed pipeline; an image's depend on the image, its id and the run seed alone.

        Args:
            images: (B, 3, H, W) float32 in [0, 1], B >= 1.
            ids: of the images, from which a randomised defense's draws derive.
        """
        ...


Pullback = Callable[[Tensor], Tensor]
"""v (B, 3, H, W) -> J^T v (B, 3, H, W), J the Jacobian of a transformation at the images it was last given."""

Linearised = Callable[[Tensor, Sequence[int]], tuple[Tensor, Pullback]]
"""(images, seeds), as `Defense.purify` takes them -> the images behind the defense, and the product with its Jacobian."""

Differentiable = Callable[[Tensor, Sequence[int]], Tensor]
"""(images, seeds), as `Defense.purify` takes them -> the images behind the defense, as a node of torch's graph."""

Resources = Mapping[str, Any]
"""Inputs of defenses besides their own options, by name: an artifact such as a space, a setting that all share."""


class Defense(ABC):
    """A transformation of images in front of a classifier."""

    name: str
    """The defense's name in the registry."""

    requires: frozenset[str] = frozenset()
    """Names of the resources that the defense cannot be made without, such as "space"."""

    randomised: bool = False
    """Whether it draws random numbers, every image's from the seed given for it."""

    iterative: bool = False
    """Whether it solves a problem for every image: a solve can start where another one ended, and be certified."""

    gradients: tuple[Gradient, ...] = ("bpda",)
    """The modes that `linearised` takes, the strongest first."""

    routes: int = 0
    """Number of routes that an image can take through the defense (`Purified.cluster`); 0: there is one for all."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything but the seeds that can change a byte of the output, JSON-able."""

    @abstractmethod
    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """Transform every image on its own; the result does not depend on its batch mates.

        Args:
            images: (B, 3, H, W) float32 RGB in [0, 1] on the 8-bit grid, B >= 1.
            seeds: per-image seeds (B,); ignored by deterministic defenses.
            exclude: the images' ids, for images that the defense was fitted on and must not recognise.

        Raises:
            TensorError: if the images have another shape or range.
        """

    def linearised(self, gradient: Gradient) -> Linearised:
        """T with the product of its Jacobian, for one loop of calls on the same items in the same rows.

        Each image's solve may start where its solve in the call before ended.

        Args:
            gradient: "exact"; "stand_in": the Jacobian of a differentiable approximation in its place, of which nothing
                else is taken; or "bpda": the identity there (Athalye et al. 2018).

        Raises:
            GradientError: the mode is none of `gradients`.
        """
        require_gradient(self, gradient)
        return lambda images, seeds: (self.purify(images, seeds=seeds).images, lambda v: v)

    def differentiable(self, gradient: Gradient) -> Differentiable:
        """T as a function that torch differentiates in a mode of `linearised`, every call from a cold start.

        Raises:
            GradientError: the mode is none of `gradients`.
        """
        require_gradient(self, gradient)

        def through(images: Tensor, seeds: Sequence[int]) -> Tensor:
            output: Tensor = _Through.apply(images, self.linearised(gradient), seeds)
            return output

        return through

    def certified(self) -> "Defense":
        """The same transformation with its solves certified, for finite differences; itself where nothing is solved."""
        return self

    def routed_to(self, route: int) -> "Defense":
        """The defense with one route for every image, for attacks that suppose another route than the predicted one.

        Raises:
            TensorError: there is no such route.
        """
        require_route(self, route)
        return self


class _Through(Function):
    """A linearised transformation as a node of torch's graph."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, linearised: Linearised, seeds: Sequence[int]) -> Tensor:
        purified, ctx.pullback = linearised(images.detach(), seeds)
        return purified.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        return ctx.pullback(cotangents[0]), None, None


def require_gradient(defense: Defense, gradient: Gradient) -> None:
    """Refuse a gradient that the defense does not have.

    Raises:
        GradientError: names the gradients that it has.
    """
    if gradient not in defense.gradients:
        expected = nearest(gradient, defense.gradients)
        raise GradientError("no such gradient of the defense", item=defense.name, expected=expected, got=gradient)


def require_route(defense: Defense, route: int) -> None:
    """Refuse a route that the defense does not have.

    Raises:
        TensorError: gives the number of its routes.
    """
    if not 0 <= route < defense.routes:
        expected = f"one of {defense.routes}"
        raise TensorError("no such route through the defense", item=defense.name, expected=expected, got=route)


def deployed(defense: Defense, images: Tensor, seeds: Sequence[int]) -> Tensor:
    """q8(T(q8(x))): the (B, 3, H, W) images that are stored behind the defense and that a classifier sees."""
    return quantize(defense.purify(quantize(images), seeds=seeds).images)


def deployed_seeds(run_seed: int, ids: Sequence[str]) -> list[int]:
    """The seeds (B,) of the draw that a run stores, judges and shows: the same wherever an image of that id occurs."""
    return seeds_of(run_seed, ids, "defense draw")


def identity_in_run(defense: Defense, run_seed: int) -> dict[str, Any]:
    """The identity of a defense in a run: its own, and the run's seed where it draws random numbers."""
    identity = defense.identity()
    return {**identity, "run_seed": run_seed} if defense.randomised else identity
