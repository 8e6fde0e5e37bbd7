"""The projection as a differentiable layer in front of any classifier."""

from collections.abc import Callable
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from stl_ray.csc import Accuracy, projection_vjp, reconstruct, tolerances
from stl_ray.errors import TensorError
from stl_ray.space.space import QuasiNaturalSpace

Gradient = Literal["exact", "bpda", "none"]

CLIP_SLACK = 1e-6
"""How far outside [0, 1] a reconstructed pixel may lie and still pass the gradient: rounding of black and white."""


class SparseTransformationLayer(nn.Module):
    """Projects images (B, C, H, W) in [0, 1] onto a space; the same images as `space.project(images).images`.

    The stratum of an image is piecewise constant and passes no gradient. The space follows the module to a device.

    Args:
        space: to project onto; it is not trained.
        gradient: "exact" (of the solved projection and its clipping, by conjugate gradients on the support), "bpda"
            (the identity, as in backward pass differentiable approximation, Athalye et al. 2018), or "none".
        accuracy: of the solver.
        cg_steps: conjugate gradient steps of the exact gradient.

    Raises:
        TensorError: an unknown gradient or accuracy, or no steps.
    """

    def __init__(
        self,
        space: QuasiNaturalSpace,
        gradient: Gradient = "exact",
        accuracy: str | Accuracy = "default",
        cg_steps: int = 30,
    ) -> None:
        super().__init__()
        if gradient not in ("exact", "bpda", "none"):
            raise TensorError("unknown gradient", expected="exact, bpda or none", got=gradient)
        if cg_steps < 1:
            raise TensorError("conjugate gradient steps out of range", expected="at least 1", got=cg_steps)
        self.space = space
        self.gradient = gradient
        self.accuracy = tolerances(accuracy)
        self.cg_steps = cg_steps

    def forward(self, images: Tensor) -> Tensor:
        """The projected images, (B, C, H, W) in [0, 1]."""
        if self.gradient == "exact":
            self.space.check(images)
            output: Tensor = _Reconstruction.apply(images, self.space, self.accuracy, self.cg_steps)
            clipped: Tensor = _Clip.apply(output)
            return clipped
        projected = self.space.project(images.detach(), self.accuracy).images
        return projected if self.gradient == "none" else _StraightThrough.apply(images, projected)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the space along with the module; its numbers keep their types."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.space.router is not None:
            # The ids are integers, which a change of type alone leaves where they are.
            self.space = self.space.to(fn(self.space.router.reference_ids.new_empty(0)).device)
        return self

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        return f"gradient={self.gradient}, cg_steps={self.cg_steps}, space={self.space.digest[:12]}"


class _StraightThrough(torch.autograd.Function):
    """The value of the second argument with the identity's gradient to the first."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, projected: Tensor) -> Tensor:
        return projected.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        return cotangents[0], None


class _Clip(torch.autograd.Function):
    """The clip to [0, 1]; a pixel on its boundary up to rounding, as black and white are, passes the gradient."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        ctx.save_for_backward((raw < -CLIP_SLACK) | (raw > 1 + CLIP_SLACK))
        return raw.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        (outside,) = ctx.saved_tensors
        return cotangents[0].masked_fill(outside, 0)


class _Reconstruction(torch.autograd.Function):
    """T before clipping, with its exact vector-Jacobian product."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, space: QuasiNaturalSpace, accuracy: Accuracy, cg_steps: int) -> Tensor:
        output = torch.empty_like(images)
        ctx.strata, ctx.cg_steps = [], cg_steps
        supports = []
        for indices, dictionary in space.strata(space.route(images)):
            result = reconstruct(images[indices], dictionary, space.lmbda, accuracy)
            output[indices] = result.images
            supports.append(result.support)
            ctx.strata.append((indices, dictionary))
        ctx.save_for_backward(*supports)
        return output

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = torch.empty_like(cotangents[0])
        for (indices, dictionary), support in zip(ctx.strata, ctx.saved_tensors, strict=True):
            gradient[indices] = projection_vjp(cotangents[0][indices], support, dictionary, ctx.cg_steps)
        return gradient, None, None, None
