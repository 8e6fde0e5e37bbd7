"""The exact vector-Jacobian product of the projection T.

Where the support of the codes does not change (almost everywhere), D z moves as P s, with P the orthogonal projector
onto the span of the active atoms; z need not be unique for that. With s = x - L x, L the low band,

    J^T v = P v + L^T (v - P v).

P v comes from least squares on the active atoms by conjugate gradients (CGLS, Bjorck 1996, section 7.4), one D and one
D^T a step; the residual v - P v is what that iteration keeps.
"""

import torch
from torch import Tensor

from stl_ray.csc.bands import low_band_adjoint
from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.operator import ConvolutionOperator, operator_of
from stl_ray.csc.tiles import tile_size
from stl_ray.tiling import in_tiles


@torch.no_grad()
def projection_vjp(cotangent: Tensor, support: Tensor, dictionary: Dictionary, steps: int) -> Tensor:
    """J^T v of T at a solve with that support, dictionary held fixed.

    Args:
        cotangent: v, (B, C, H, W) float32 or float64.
        support: (B, K, H, W) bool.
        dictionary: the filters of that solve.
        steps: conjugate gradient steps at most.

    Returns:
        (B, C, H, W).
    """
    height, width = cotangent.shape[-2:]
    operator = operator_of(dictionary, height, width, cotangent.dtype, cotangent.device)

    def vjp_tile(v: Tensor, support: Tensor) -> tuple[Tensor]:
        orthogonal = _off_the_span(v, support, operator, steps)
        return (v - orthogonal + low_band_adjoint(orthogonal),)

    return in_tiles(vjp_tile, cotangent, support, size=tile_size(height, width, cotangent.device))[0]


def _off_the_span(v: Tensor, support: Tensor, operator: ConvolutionOperator, steps: int) -> Tensor:
    """The part v - P v of v, (B, C, H, W), that is orthogonal to the active atoms."""
    residual = v
    gradient = operator.adjoint(residual) * support
    direction = gradient
    energy = _dot(gradient, gradient)
    # Further steps would walk along combinations of atoms that cancel, where rounding is all there is.
    floor = _dot(v, v) * torch.finfo(v.dtype).eps
    for _ in range(steps):
        running = energy > floor
        if not bool(running.any()):
            break
        image = operator.forward(direction)
        residual = residual - torch.where(running, energy / _dot(image, image), 0) * image
        gradient = operator.adjoint(residual) * support
        previous, energy = energy, torch.where(running, _dot(gradient, gradient), 0)
        direction = gradient + torch.where(running, energy / previous, 0) * direction
    return residual


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2, 3), keepdim=True)
