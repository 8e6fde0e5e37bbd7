"""The projection as a differentiable layer in front of any classifier."""

from collections.abc import Callable
from typing import Any, Literal, Self, cast, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stl_ray.csc import Accuracy, Codes, SolveStatus, check_method, projection_vjp, tolerances
from stl_ray.errors import GradientError, TensorError
from stl_ray.images.clipping import clipped
from stl_ray.options import require_known
from stl_ray.space.space import Normalization, QuasiNaturalSpace, check_normalization, divided

Gradient = Literal["exact", "bpda", "none"]


class SparseTransformationLayer(nn.Module):
    """Projects images (B, C, H, W) in [0, 1] onto a space; the same images as `space.project(images).images`.

    The cluster of an image is piecewise constant and passes no gradient. The space follows the module to a device. There
    are no parameters, and the state_dict is empty.

    Types: float32 and float64 images are projected in their own type, whatever autocast says; float16 and bfloat16 ones
    in float32, and come back in theirs; anything else (uint8) is refused. The output is contiguous in any memory format
    of the input. `torch.compile` runs the layer as it is, between the graphs around it (of an nn.Sequential it then compiles
    the other modules one by one).

    Args:
        space: to project onto; it is not trained.
        gradient: "exact" (of the solved projection and its normalisation, by conjugate gradients on the support), "bpda"
            (the identity, as in backward pass differentiable approximation, Athalye et al. 2018), or "none".
        accuracy: of the solver.
        cg_steps: conjugate gradient steps of the exact gradient, at most.
        method: of the solver: "auto" or a name of `stl_ray.csc.METHODS`.
        normalization: as for `space.project`.
        warm_start: start every solve from the codes of the previous call, where that had images of the same shape: for
            attacks, which project one batch again and again. An image that is routed to another cluster than before, or
            whose solve diverged, starts from zero. Results depend on the image's calls before (within the accuracy), so
            verdicts are for a layer without it.

    Attributes:
        cg_residual: relative residuals (B,) of the latest backward pass, as `projection_vjp` returns them; None before.

    Raises:
        TensorError: an unknown gradient, accuracy, method or normalization, or no steps.
    """

    def __init__(
        self,
        space: QuasiNaturalSpace,
        gradient: Gradient = "exact",
        accuracy: str | Accuracy = "default",
        cg_steps: int = 30,
        *,
        method: str = "auto",
        normalization: Normalization = "clip",
        warm_start: bool = False,
    ) -> None:
        super().__init__()
        require_known(gradient, get_args(Gradient), kind="gradient", error=TensorError)
        if cg_steps < 1:
            raise TensorError("conjugate gradient steps out of range", expected="at least 1", got=cg_steps)
        check_normalization(normalization)
        check_method(method)
        self.space = space
        self.gradient = gradient
        self.accuracy = tolerances(accuracy)
        self.cg_steps = cg_steps
        self.method = method
        self.normalization = normalization
        self.warm_start = warm_start
        self.cg_residual: Tensor | None = None
        self._latest: tuple[Codes, Tensor] | None = None  # of the previous call: codes, and clusters (B,)

    def forward(self, images: Tensor) -> Tensor:
        """The projected images, (B, C, H, W) in [0, 1]."""
        if torch.compiler.is_compiling():
            from stl_ray.space import no_compile  # loads the compiler, which takes a second

            return cast(Tensor, no_compile.call(self.project, images))
        return self.project(images)

    def project(self, images: Tensor) -> Tensor:
        """The projected images; `torch.compile` does not trace this part of `forward`.

        Raises:
            TensorError: the images are not those of `space.check`.
            GradientError: it is called within a transform of torch.func, whose tensors have no values to solve for.
        """
        if not isinstance(images, Tensor):
            raise TensorError("images of another kind", expected="torch.as_tensor of them", got=type(images).__name__)
        if torch._C._functorch.is_functorch_wrapped_tensor(images):
            raise GradientError(
                "the layer is opaque to torch.func (grad, vjp, jacrev, vmap)",
                expected="torch.autograd.grad of a batch, or torch.autograd.functional",
            )
        with torch.autocast(images.device.type, enabled=False):
            space = self._space_on(images.device)
            inputs = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
            if self.gradient == "exact":
                space.check(inputs)
                output = clipped(divided(_Reconstruction.apply(inputs, space, self), self.normalization))
            else:
                output = self._projected(space, inputs.detach())
                if self.gradient == "bpda":
                    output = _StraightThrough.apply(inputs, output)
            return output.to(images.dtype)

    def _projected(self, space: QuasiNaturalSpace, images: Tensor) -> Tensor:
        """The projected images, without a gradient."""
        space.check(images)
        clusters = space.route(images)
        start = self._start(images, clusters)
        projection = space.project(
            images, self.accuracy, self.normalization, clusters=clusters, method=self.method, start=start
        )
        self._keep(projection.codes, clusters)
        return projection.images

    def _space_on(self, device: torch.device) -> QuasiNaturalSpace:
        """The space on the images' device, where it is unless this is a replica of DataParallel's."""
        router = self.space.router
        return self.space if router is None or router.reference_ids.device == device else self.space.to(device)

    def _start(self, images: Tensor, clusters: Tensor) -> Codes | None:
        """The codes of the previous call, where they fit images (B, C, H, W) of these clusters (B,)."""
        if self._latest is None:
            return None
        codes, before = self._latest
        if codes.synthesis.shape != images.shape or codes.synthesis.device != images.device:
            return None
        # An image whose codes are of another dictionary, or not finite, starts from zero.
        useless = (clusters != before) | (codes.status == SolveStatus.DIVERGED)
        return codes.cleared(useless) if bool(useless.any()) else codes

    def _keep(self, codes: Codes, clusters: Tensor) -> None:
        """Keep the codes that the next call may start from."""
        if self.warm_start:
            self._latest = codes, clusters

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


class _Reconstruction(torch.autograd.Function):
    """T before normalisation, with its exact vector-Jacobian product."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, space: QuasiNaturalSpace, layer: SparseTransformationLayer) -> Tensor:
        clusters = space.route(images)
        start = layer._start(images, clusters)
        raw, codes = space.reconstruct(images, clusters, layer.accuracy, layer.method, start)
        layer._keep(codes, clusters)
        if images.requires_grad:
            ctx.layer, ctx.groups = layer, space.strata(clusters)
            ctx.save_for_backward(codes.support)
        return raw

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        (support,), (v,) = ctx.saved_tensors, cotangents
        layer: SparseTransformationLayer = ctx.layer
        gradient = torch.empty_like(v)
        residual = v.new_empty(len(v))
        for indices, dictionary in ctx.groups:
            part = support if len(ctx.groups) == 1 else _of_images(support, indices, len(v))
            gradient[indices], residual[indices] = projection_vjp(v[indices], part, dictionary, layer.cg_steps)
        layer.cg_residual = residual
        return gradient, None, None


def _of_images(support: Tensor, indices: Tensor, count: int) -> Tensor:
    """The part (4, m) of a support (4, n) that lies in the images of these (sorted) indices, renumbered from 0."""
    number = support.new_full((count,), -1).index_copy_(0, indices, torch.arange(len(indices), device=support.device))
    image = number[support[0]]
    return torch.cat([image[None], support[1:]])[:, image >= 0]
