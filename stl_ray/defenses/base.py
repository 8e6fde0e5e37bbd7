"""What every defense does: an image in, the image that the classifier sees out, and how that went."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stl_ray.errors import GradientError
from stl_ray.images import quantize
from stl_ray.space import Gradient

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


Pullback = Callable[[Tensor], Tensor]
"""v (B, 3, H, W) -> J^T v (B, 3, H, W), J the Jacobian of a transformation at the images it was last given."""

Linearised = Callable[[Tensor, Sequence[int] | None], tuple[Tensor, Pullback]]
"""(images, seeds), as `Defense.purify` takes them -> the images behind the defense, and the product with its Jacobian."""


class Defense(ABC):
    """A transformation of images in front of a classifier."""

    name: str
    """The defense's name in the registry."""

    randomised: bool = False
    """Whether it draws random numbers; it then draws them from the seeds it is given, for each image its own."""

    gradients: tuple[Gradient, ...] = ("bpda",)
    """The modes in which `linearised` can be asked for."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Whatever can change a byte of the output, JSON-able."""

    @abstractmethod
    def purify(
        self, images: Tensor, exclude: Sequence[str] | None = None, seeds: Sequence[int] | None = None
    ) -> Purified:
        """Transform every image on its own; the result does not depend on its batch mates.

        Args:
            images: (B, 3, H, W) float32 RGB in [0, 1] on the 8-bit grid, B >= 1.
            exclude: the images' ids, for images that the defense was fitted on and must not recognise.
            seeds: one for each image, of what a randomised defense draws; nothing to the others.

        Raises:
            TensorError: if the images have another shape or range.
        """

    def linearised(self, gradient: Gradient) -> Linearised:
        """T with the product of its Jacobian, for one loop of calls on the same items in the same rows.

        A call may start from where the call before it ended, each image from its own.

        Args:
            gradient: "exact", or "bpda": the identity in place of the Jacobian (Athalye et al. 2018).

        Raises:
            GradientError: the mode is none of `gradients`.
        """
        require_gradient(self, gradient)
        return lambda images, seeds: (self.purify(images, seeds=seeds).images, lambda v: v)


def require_gradient(defense: Defense, gradient: Gradient) -> None:
    """Refuse a gradient that the defense does not have.

    Raises:
        GradientError: with those it has.
    """
    if gradient not in defense.gradients:
        expected = " or ".join(defense.gradients)
        raise GradientError("no such gradient of the defense", item=defense.name, expected=expected, got=gradient)


def deployed(defense: Defense, images: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
    """q8(T(q8(x))): the (B, 3, H, W) images that are stored behind the defense and that a classifier sees."""
    return quantize(defense.purify(quantize(images), seeds=seeds).images)
