"""The optimality certificate of CBPDN: the relative duality gap, in float64 whatever the solver worked in.

Primal F(x) = 1/2 ||s - D x||^2 + lambda ||x||_1; dual G(r) = 1/2 ||s||^2 - 1/2 ||s - r||^2 subject to
||D^T r||_inf <= lambda. A residual scaled into that set is feasible, so F(x) - G(t r) bounds F(x) - min F.
"""

from torch import Tensor

from stl_ray.csc.operator import ConvolutionOperator


def objective(maps: Tensor, highpass: Tensor, operator: ConvolutionOperator, lmbda: float) -> Tensor:
    """F of every image, (B,)."""
    return _primal(highpass - operator.forward(maps), maps, lmbda)


def duality_gap(maps: Tensor, highpass: Tensor, operator: ConvolutionOperator, lmbda: float) -> Tensor:
    """Certified bound on (F(maps) - min F) / F(maps) of every image, (B,) >= 0 up to rounding; 0 where F is 0.

    Args:
        maps: (B, K, H, W) float64.
        highpass: (B, C, H, W) float64.
        operator: D in float64.
        lmbda: the l1 weight.
    """
    residual = highpass - operator.forward(maps)
    primal = _primal(residual, maps, lmbda)
    violation = operator.adjoint(residual).abs().amax((1, 2, 3)) / lmbda
    feasible = residual / violation.clamp(min=1)[:, None, None, None]
    dual = _total(highpass * feasible) - _total(feasible.square()) / 2
    return (primal - dual) / primal.where(primal > 0, 1)


def _primal(residual: Tensor, maps: Tensor, lmbda: float) -> Tensor:
    return _total(residual.square()) / 2 + lmbda * _total(maps.abs())


def _total(maps: Tensor) -> Tensor:
    # Rows first: a sum that several threads share is not taken in one order.
    return maps.sum(3).sum((1, 2))
