"""CBPDN by over-relaxed ADMM in its one-array (Douglas-Rachford) form; the readable definition of the solver.

    minimise over x   1/2 ||s - D x||^2 + lambda ||x||_1,    split as  F(x) + G(y),  x = y,  scaled dual u.

With p = y + u the whole state is p, and everything else follows from it (t = lambda / rho):

    u = clip(p, t),  y = p - u                       the prox of G, by Moreau's identity
    w = (rho I + D D^H)^{-1} (s - D (y - u))         a C x C system at every frequency
    x = y - u + D^H w                                the minimiser of F + rho/2 ||x - y + u||^2 (Woodbury)
    p <- p + alpha (x - y),   x - y = D^H w - u

The dual variable is rho u and s - D x = rho w, so |D^H (s - D x)| = rho |u + (x - y)| <= lambda + rho |x - y|: the
primal residual x - y also bounds how far x itself violates the optimality condition, at no cost. The solver returns
y, which is sparse: its condition differs by D^H D (x - y), which that bound does not cover; `codes.ACCURACIES` gives
measured violations. Sources: Wohlberg 2016 (the splitting, in SPORCO's `cbpdn`); Eckstein and Bertsekas 1992 (the
one-array form).
"""

import torch
from torch import Tensor

from stl_ray.csc.certificate import duality_gap
from stl_ray.csc.codes import Accuracy, Codes, SolveStatus, Splitting
from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.operator import ConvolutionOperator, operator_of
from stl_ray.csc.prox import clip, soft_threshold
from stl_ray.csc.tiles import tile_size
from stl_ray.tiling import in_tiles

ALPHA = 1.9
"""Over-relaxation."""

CHECK_EVERY = 2
"""Iterations between checks of the stopping rule."""

CERTIFY_EVERY = 25
"""Iterations between certificates, where one is asked for."""


def solve(s: Tensor, dictionary: Dictionary, lmbda: float, accuracy: Accuracy, start: Tensor | None) -> Codes:
    """Solve for every image on its own; arguments as for `solve_cbpdn`, already checked."""
    # A certificate needs float64 all the way; the codes come back in the type of the signal.
    dtype = s.dtype if accuracy.gap is None else torch.float64
    operator = operator_of(dictionary, s.shape[-2], s.shape[-1], dtype, s.device)
    rho = penalty(dictionary, lmbda, accuracy.splitting)

    def solve_tile(s: Tensor, *start: Tensor) -> tuple[Tensor, ...]:
        p = initial_state(s.to(dtype), start[0].to(dtype) if start else None, operator, lmbda, rho)
        y, *rest = _iterate(p, s, operator, lmbda, rho, accuracy)
        return y, operator.forward(y.to(dtype)).to(s.dtype), *rest

    tensors = (s,) if start is None else (s, start.to_dense())
    return Codes(*in_tiles(solve_tile, *tensors, size=tile_size(s.shape[-2], s.shape[-1], s.device)))


def penalty(dictionary: Dictionary, lmbda: float, splitting: Splitting) -> float:
    """rho, in the units of the dictionary's filters."""
    return splitting.penalty * lmbda * float(dictionary.filters.double().square().sum((1, 2, 3)).mean().sqrt())


def step(p: Tensor, sf: Tensor, operator: ConvolutionOperator, threshold: float, rho: float) -> Tensor:
    """The primal residual x - y, (B, K, H, W), of one iteration from the state p and the spectrum of s."""
    u = clip(p, threshold)
    vf = operator.transform(torch.sub(p, u, alpha=2))
    wf = operator.solve(rho, sf - operator.synthesize(vf))
    return operator.inverse_transform(operator.correlate(wf)).sub_(u)


def initial_state(s: Tensor, y: Tensor | None, operator: ConvolutionOperator, lmbda: float, rho: float) -> Tensor:
    """The state of a cold start, or y with the dual variable that its residual implies (exact at the optimum)."""
    if y is None:
        return s.new_zeros((s.shape[0], operator.filters.shape[0], *operator.size))
    return y + clip(operator.adjoint(s - operator.forward(y)) / rho, lmbda / rho)


def _iterate(
    p: Tensor, s: Tensor, operator: ConvolutionOperator, lmbda: float, rho: float, accuracy: Accuracy
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run until every image of the tile has stopped; an image that has stopped is frozen."""
    threshold = lmbda / rho
    sf = operator.transform(s.to(p.dtype))
    stopped = torch.zeros(p.shape[0], dtype=torch.bool, device=p.device)
    iterations = torch.full((p.shape[0],), accuracy.splitting.max_iterations, device=p.device)
    gap = torch.full((p.shape[0],), torch.nan, dtype=torch.float64, device=p.device)
    relaxation = torch.full((p.shape[0], 1, 1, 1), ALPHA, dtype=p.dtype, device=p.device)
    interval = CHECK_EVERY if accuracy.gap is None else CERTIFY_EVERY
    for iteration in range(1, accuracy.splitting.max_iterations + 1):
        residual = step(p, sf, operator, threshold, rho)
        if iteration % interval == 0:
            y = soft_threshold(p, threshold)
            if accuracy.gap is None:
                stops = _is_small(residual, y, threshold, accuracy.splitting)
            else:
                # Certify what is returned: the codes as rounded to the type of the signal.
                bound = duality_gap(y.to(s.dtype).double(), s.double(), operator, lmbda)
                gap = torch.where(stopped, gap, bound)
                stops = bound <= accuracy.gap
            iterations = torch.where(stops & ~stopped, iteration, iterations)
            stopped |= stops
            if bool(stopped.all()):
                break
            relaxation[stopped] = 0
        p.addcmul_(residual, relaxation)
    y = soft_threshold(p, threshold).to(s.dtype)
    status = torch.where(stopped, SolveStatus.CONVERGED, SolveStatus.MAX_ITERATIONS)
    return y, torch.where(y.flatten(1).isfinite().all(1), status, SolveStatus.DIVERGED), iterations, gap


def _is_small(residual: Tensor, y: Tensor, threshold: float, splitting: Splitting) -> Tensor:
    """Whether x - y of every image meets the tolerances, (B,); a bound on the violation by x, not by y."""
    largest = residual.abs().flatten(1).amax(1)
    # The threshold is the scale of one coefficient: it lets an image with an empty code converge.
    change = _norm(residual) / (_norm(y) + threshold)
    return (largest <= splitting.violation * threshold) & (change <= splitting.change)


def _norm(maps: Tensor) -> Tensor:
    """||x|| of every image, (B,); map by map, since a sum that several threads share is not taken in one order."""
    norms: Tensor = maps.norm(dim=3).flatten(1).norm(dim=1)
    return norms
