"""Detectors: they accept or refuse an image, beside what the classifier says of it.

The verdict on a refused image is no class. An attacked image that is refused is a failed attack; a clean one that is
refused is a loss.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stl_ray.defenses.base import Defense
from stl_ray.models import Victim
from stl_ray.seeding import seed_of

Calibration = Mapping[str, np.ndarray]
"""What a detector learned from a classifier's answers on training images, such as its thresholds, by name."""


CALIBRATED_ON = 1000
"""Training images, at most, where the defense says nothing else."""


class Detector(ABC):
    """Accepts or refuses every image, on its own; tiles of one size give the same bits in any batch."""

    @abstractmethod
    def scores(self, images: Tensor, seen: Tensor) -> Tensor:
        """Scores (B,) float32, finite and not negative, without a graph; an image whose score is above 1 is refused.

        Args:
            images: (B, 3, H, W) float32 in [0, 1], as they came in.
            seen: (B, 3, H, W), what the classifier sees of them behind the defense.
        """

    @abstractmethod
    def scores_and_vjp(
        self, images: Tensor, seen: Tensor, cotangent: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores s (B,), and the products of their Jacobians with v = cotangent(s) (B,): for `images` and for `seen`.

        Scores are given to `cotangent` cut off from their graph, and nothing of the pass is in its way: within it the
        network may be asked.
        """


class DetectorByAutograd(Detector):
    """A detector that torch differentiates: one function is all of it."""

    @abstractmethod
    def differentiable(self, images: Tensor, seen: Tensor) -> Tensor:
        """The scores (B,), made of operations that torch differentiates; as `Detector.scores`."""

    def scores(self, images: Tensor, seen: Tensor) -> Tensor:
        """See `Detector.scores`."""
        with torch.no_grad():
            return self.differentiable(images, seen)

    def scores_and_vjp(
        self, images: Tensor, seen: Tensor, cotangent: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Detector.scores_and_vjp`."""
        with torch.inference_mode(mode=False), torch.enable_grad():
            leaves = [tensor.detach().clone().requires_grad_() for tensor in (images, seen)]
            scores = self.differentiable(*leaves)
        answer = scores.detach()
        for_images, for_seen = torch.autograd.grad(
            scores, leaves, cotangent(answer), allow_unused=True, materialize_grads=True
        )
        return answer, for_images, for_seen


class Detecting(Defense):
    """A defense of one view that also refuses images."""

    @abstractmethod
    def detector_identity(self) -> dict[str, Any]:
        """Everything that can change a calibration or a score beside `identity`, which is of what the classifier sees.

        JSON-able; so another detector leaves purified images and retrained classifiers as they are.
        """

    @property
    def fewest(self) -> int:
        """Training images without which it cannot be calibrated."""
        return 1

    def chosen(self, ids: Sequence[str], seed: int) -> list[str]:
        """The training images that it is calibrated on, of all these ids, in an order that the seed gives them."""
        most = max(CALIBRATED_ON, 2 * self.fewest)
        return sorted(ids, key=lambda name: seed_of(seed, name, "calibration of a detector"))[:most]

    @abstractmethod
    def calibrate(
        self, classifier: Victim, images: Tensor, labels: Tensor, ids: Sequence[str], seed: int
    ) -> Calibration:
        """What the detector learns from training images, the same in whatever order they come.

        Args:
            classifier: that is defended.
            images: (N, 3, H, W) float32 in [0, 1].
            labels: (N,) int64.
            ids: of the images.
            seed: the run seed.

        Raises:
            TrainingError: the images do not do.
        """

    @abstractmethod
    def detector(self, classifier: Victim, calibration: Calibration) -> Detector:
        """The detector in front of that classifier.

        Raises:
            ArtifactError: the calibration is of another defense.
        """
