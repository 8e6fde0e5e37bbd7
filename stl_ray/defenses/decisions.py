"""Verdicts of a defended model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from stl_ray.defenses.purified import Purified
from stl_ray.models import Victim


@dataclass(frozen=True)
class Decisions:
    """Verdicts of a defended model on stored images, one entry per image."""

    prediction: Tensor  # (B,) int64 class, or `rightness.NO_VERDICT`
    confidence: Tensor  # (B,) float32, softmax of that class, of several views their mean; 0 without a verdict
    status: list[str]  # how the defense ended
    views: tuple[Purified, ...]  # what the classifier was shown, before rounding
    rejected: Tensor  # (B,) bool, whether a detector refused the image; no: there is none
    score: Tensor  # (B,) float32, the detector's score: above 1 the image is refused; 0: there is none


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
