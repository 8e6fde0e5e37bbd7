"""What every defense does: an image in, the image that the classifier sees out, and how that went."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stl_ray.images import quantize

APPLIED = "applied"
"""Status of an image behind a defense that cannot end in more than one way."""


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


class Defense(ABC):
    """A transformation of images in front of a classifier."""

    name: str
    """The defense's name in the registry."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Whatever can change a byte of the output, JSON-able."""

    @abstractmethod
    def purify(self, images: Tensor, exclude: Sequence[str] | None = None) -> Purified:
        """Transform every image on its own; the result does not depend on its batch mates.

        Args:
            images: (B, 3, H, W) float32 RGB in [0, 1] on the 8-bit grid, B >= 1.
            exclude: the images' ids, for images that the defense was fitted on and must not recognise.

        Raises:
            TensorError: if the images have another shape or range.
        """


def deployed(defense: Defense, images: Tensor) -> Tensor:
    """q8(T(q8(x))): the (B, 3, H, W) images that are stored behind the defense and that a classifier sees."""
    return quantize(defense.purify(quantize(images)).images)
