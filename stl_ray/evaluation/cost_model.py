"""Upper bound on the passes of attacks and checks, counted on a stub model that is rarely fooled.

No attack succeeds on the stub within an ordinary budget, so no attack stops early.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stl_ray.config import Gradient
from stl_ray.defenses import Defense, Detector, Linearised, Pullback, Purified, Transformation
from stl_ray.defenses.base import require_gradient

KINDS = FORWARD, BACKWARD, COLD, WARM, CERTIFIED, PULLBACK, DETECTED, DIFFERENTIATED = (
    "forward passes", "backward passes", "projections", "warm projections", "certified projections",
    "products with the projection's Jacobian", "scores of the detector", "products with the detector's Jacobian",
)  # fmt: skip
"""Kinds of work: passes of the classifier; projections of the defense from a cold start, from the previous codes, and
to a certificate; products with the projection's Jacobian; scores of the detector, alone and with products."""

GREY = 0.5
"""Value of every pixel of the images to attack."""

_FAR, _MARGIN = 0.2, 10.0


@dataclass
class Work:
    """Number of images and calls by kind of work."""

    images: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, images: int) -> None:
        """Count one call on a number of images."""
        self.images[kind] += images
        self.calls[kind] += 1


class StubClassifier:
    """A `Victim` that predicts class 0 near grey and class 1, if there is one, far from grey, with arbitrary gradients.

    Args:
        classes: number of classes.
        work: receives the counts.
    """

    training = False

    def __init__(self, classes: int, work: Work) -> None:
        self._classes, self._work = classes, work

    def logits(self, images: Tensor) -> Tensor:
        """See `Victim`."""
        self._work.add(FORWARD, len(images))
        distance = (images - GREY).abs().flatten(1).mean(1)
        logits = torch.linspace(-1, -2, self._classes, device=images.device).repeat(len(images), 1)
        logits[:, 0] = 0
        logits[:, 1:2] = _MARGIN * (distance / _FAR - 1)[:, None]
        return logits

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """See `Victim`."""
        logits, products = self.logits_and_vjps(images, lambda logits: cotangent(logits)[None])
        return logits, products[0]

    def logits_and_vjps(self, images: Tensor, cotangents: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """See `ManyProducts`."""
        logits = self.logits(images)
        v = cotangents(logits)
        self._work.add(BACKWARD, v.shape[0] * len(images))
        # A new direction in every call, with some large entries: an iterate that does not move, or not after rounding,
        # would need no projection.
        generator = torch.Generator().manual_seed(self._work.calls[BACKWARD])
        noise = torch.randn(self._classes, *images.shape[1:], generator=generator) ** 3
        return logits, torch.einsum("rbn,nchw->rbchw", v, noise.to(images))


class StubDefense(Defense):
    """A defense that changes nothing and counts its calls; attacks see the same interface as of the given defense.

    Args:
        defense: the given one.
        work: that is counted into.
        cold: the kind of a solve from a cold start.
    """

    def __init__(self, defense: Defense, work: Work, cold: str = COLD) -> None:
        self.name, self.routes, self.iterative = defense.name, defense.routes, defense.iterative
        self._defense, self._work = defense, work
        self._views = tuple(StubTransformation(view, work, cold) for view in defense.views)

    @property
    def views(self) -> tuple[Transformation, ...]:
        """A stub of every view."""
        return self._views

    @property
    def randomised(self) -> bool:
        """As of the given defense."""
        return self._defense.randomised

    @property
    def repeats(self) -> int:
        """As of the given defense."""
        return self._defense.repeats

    def identity(self) -> dict[str, Any]:
        """Identity of the given defense."""
        return self._defense.identity()

    def certified(self) -> "StubDefense":
        """The stub that counts certified solves."""
        return StubDefense(self._defense, self._work, CERTIFIED if self.iterative else COLD)

    def routed_to(self, route: int) -> "StubDefense":
        """The stub itself, since all routes cost the same."""
        return self


class StubTransformation(Transformation):
    """One view of a `StubDefense`."""

    def __init__(self, view: Transformation, work: Work, cold: str) -> None:
        self.name, self.gradients = view.name, view.gradients
        self.randomised, self.iterative = view.randomised, view.iterative
        self._view, self._work, self._cold = view, work, cold

    def identity(self) -> dict[str, Any]:
        """Identity of the given view."""
        return self._view.identity()

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """Count a transformation from a cold start."""
        self._work.add(self._cold, len(images))
        return Purified.without_solver(images)

    def linearised(self, gradient: Gradient) -> Linearised:
        """Count transformations, from a cold start or warm, and products with a Jacobian."""
        if not self.iterative and gradient == "bpda":
            return super().linearised(gradient)
        require_gradient(self, gradient)
        started = False

        def linearise(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Pullback]:
            nonlocal started
            self._work.add(WARM if started else self._cold, len(images))
            started = True
            return images, pullback

        def pullback(v: Tensor) -> Tensor:
            if gradient != "bpda":
                self._work.add(PULLBACK, len(v))
            return v

        return linearise


@dataclass(frozen=True)
class StubDetector(Detector):
    """A detector that refuses nothing and counts its calls.

    Args:
        work: that is counted into.
    """

    work: Work

    def scores(self, images: Tensor, seen: Tensor) -> Tensor:
        """See `Detector`."""
        self.work.add(DETECTED, len(images))
        return torch.zeros(len(images), device=images.device)

    def scores_and_vjp(
        self, images: Tensor, seen: Tensor, cotangent: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Detector`."""
        self.work.add(DIFFERENTIATED, len(images))
        scores = torch.zeros(len(images), device=images.device)
        cotangent(scores)
        return scores, torch.zeros_like(images), torch.zeros_like(seen)
