"""CBPDN on a GPU: the iteration of `admm` in Triton kernels, with its stopping rule and statuses for every image.

`forms` has two forms of an iteration and says what each moves and computes. Tiers that stop by tolerance use the
spatial one, whose products take rounded operands. The exact tier uses the float32 pointwise one: iterated as far as
float32 carries, certified in float64, and left to `admm` in float64 where the certificate is not met.
"""

import os
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stl_ray.csc import admm
from stl_ray.csc.certified import certify, finish
from stl_ray.csc.codes import Accuracy, Codes, SolveStatus, Splitting
from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.operator import operator_of
from stl_ray.errors import TensorError
from stl_ray.tiling import in_tiles

if TYPE_CHECKING:
    from stl_ray.csc.fused.forms import Form

TILE_PIXELS = 2**20
"""Pixels solved together: a pass over their K maps, 256 MB for K = 64, takes longer than its launch."""

FLOAT32_ITERATIONS = 2000
"""Iterations of the exact tier in float32, at most."""


def available() -> bool:
    """Whether Triton runs here: on CUDA devices of compute capability 8.0 and above, or interpreted, on CPU tensors."""
    if find_spec("triton") is None:
        return False
    return _interpreted() or (
        torch.version.cuda is not None
        and torch.cuda.is_available()
        and all(torch.cuda.get_device_capability(device) >= (8, 0) for device in range(torch.cuda.device_count()))
    )


def images_at_once(height: int, width: int, device: torch.device) -> int:
    """Images per tile; a few on a CPU, where only Triton's interpreter runs."""
    return 4 if device.type == "cpu" else max(1, TILE_PIXELS // (height * width))


def solve(s: Tensor, dictionary: Dictionary, lmbda: float, accuracy: Accuracy, start: Tensor | None) -> Codes:
    """Solve for every image on its own; arguments as for `solve_cbpdn`, already checked, float32 on a CUDA device.

    Raises:
        TensorError: the signal is of another type or device, or Triton does not run here.
    """
    if accuracy.gap is not None:
        return _solve_exactly(s, dictionary, lmbda, accuracy, start)
    return solve_in_form("spatial", s, dictionary, lmbda, accuracy, start)


def solve_in_form(
    form: str, s: Tensor, dictionary: Dictionary, lmbda: float, accuracy: Accuracy, start: Tensor | None
) -> Codes:
    """`solve` in the form of that name in `forms.FORMS`, without a certificate."""
    _check(s)
    # Imported after the check, and never in a process that does not solve on a GPU.
    from stl_ray.csc.fused.forms import FORMS, Problem

    rho = admm.penalty(dictionary, lmbda, accuracy.splitting)

    def solve_tile(s: Tensor, *start: Tensor) -> tuple[Tensor, ...]:
        p = None
        if start:
            operator = operator_of(dictionary, s.shape[-2], s.shape[-1], s.dtype, s.device)
            p = admm.initial_state(s, start[0], operator, lmbda, rho)
        return _iterate(FORMS[form](Problem(s, dictionary, lmbda, rho), p), len(s), s.device, lmbda / rho, accuracy)

    tensors = (s,) if start is None else (s, start.to_dense())
    size = images_at_once(s.shape[-2], s.shape[-1], s.device)
    # Triton launches on the current device, which need not be that of the tensors.
    with torch.cuda.device(s.device) if s.is_cuda else nullcontext():
        return Codes(*in_tiles(solve_tile, *tensors, size=size))


def _iterate(
    form: "Form", images: int, device: torch.device, threshold: float, accuracy: Accuracy
) -> tuple[Tensor, ...]:
    """Run until every image of the tile has stopped; the fields of `Codes`."""
    stopped = torch.zeros(images, dtype=torch.bool, device=device)
    iterations = torch.full((images,), accuracy.splitting.max_iterations, device=device)
    relaxations = torch.full((images,), admm.ALPHA, dtype=torch.float32, device=device)
    for iteration in range(1, accuracy.splitting.max_iterations + 1):
        norms = form.step(relaxations)
        if iteration % admm.CHECK_EVERY == 0:
            stops = _are_small(norms, threshold, accuracy.splitting)
            iterations = torch.where(stops & ~stopped, iteration, iterations)
            stopped |= stops
            if bool(stopped.all()):
                break
            relaxations[stopped] = 0
    maps, synthesis = form.maps(stopped)
    status = torch.where(stopped, SolveStatus.CONVERGED, SolveStatus.MAX_ITERATIONS)
    status = torch.where(maps.flatten(1).isfinite().all(1), status, SolveStatus.DIVERGED)
    return maps, synthesis, status, iterations, torch.full((images,), torch.nan, dtype=torch.float64, device=device)


def _are_small(norms: Tensor, threshold: float, splitting: Splitting) -> Tensor:
    """`admm`'s rule on the partial norms (B, blocks, 3) of max |r|, r^2 and y^2: (B,)."""
    largest = norms[..., 0].amax(1)
    residual, size = norms[..., 1:].sum(1).sqrt().unbind(1)
    return (largest <= splitting.violation * threshold) & (residual <= splitting.change * (size + threshold))


def _solve_exactly(s: Tensor, dictionary: Dictionary, lmbda: float, accuracy: Accuracy, start: Tensor | None) -> Codes:
    """Iterations in float32, a certificate in float64, and `admm` in float64 for the images that miss it."""
    assert accuracy.gap is not None
    limited = replace(
        accuracy.splitting, max_iterations=min(FLOAT32_ITERATIONS, accuracy.splitting.max_iterations // 2)
    )
    first = replace(accuracy, splitting=limited, gap=None)
    codes = certify(solve_in_form("pointwise", s, dictionary, lmbda, first, start), s, dictionary, lmbda, accuracy.gap)
    rest = replace(accuracy.splitting, max_iterations=accuracy.splitting.max_iterations - limited.max_iterations)
    return finish(codes, s, dictionary, lmbda, replace(accuracy, splitting=rest))


def _interpreted() -> bool:
    """Whether Triton's kernels run on the CPU, for tests; read when triton is first imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _check(s: Tensor) -> None:
    if not available():
        raise TensorError(
            "fused does not run here",
            expected='Triton and a CUDA device, or the method "admm"',
            got="none, or an older one",
        )
    if s.dtype != torch.float32:
        raise TensorError("a signal that fused does not take", expected=torch.float32, got=s.dtype)
    if s.is_cuda == _interpreted():
        raise TensorError("a signal that fused does not take", expected="one on a CUDA device", got=s.device)
