"""Jacobians by torch's graph, and the transformations that have theirs from it: one function of images and seeds is all of them."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stl_ray.config import Gradient
from stl_ray.defenses.base import Linearised, Pullback, Transformation
from stl_ray.defenses.purified import Purified


def by_autograd(function: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Pullback]:
    """function(images), and the product with its Jacobian there, by torch's graph of it; of any number of vectors.

    Args:
        function: (B, 3, H, W) -> (B, 3, H, W), made of operations that torch differentiates.
        images: (B, 3, H, W), where it is linearised.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf = images.detach().clone().requires_grad_()
        output = function(leaf)
    return output.detach(), lambda v: torch.autograd.grad(output, leaf, v, retain_graph=True)[0]


class TransformationByAutograd(Transformation):
    """A transformation without a solver whose exact gradient is autograd's."""

    gradients: tuple[Gradient, ...] = ("exact", "bpda")

    @abstractmethod
    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """The images behind the defense, made of operations that torch differentiates; as `Transformation.purify`."""

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`."""
        with torch.no_grad():
            return Purified.without_solver(self.transformed(images, seeds))

    def linearised(self, gradient: Gradient) -> Linearised:
        """See `Transformation.linearised`."""
        if gradient != "exact":
            return super().linearised(gradient)
        return lambda images, seeds: by_autograd(lambda x: self.transformed(x, seeds), images)
