"""Who is compared: SPORCO as the authors' script runs it, and the package's methods. All on one thread.

A contestant projects one image; how it got there is read from what it returns afterwards, outside the clock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sporco.fft
import torch
from sporco.admm import cbpdn
from sporco.signal import tikhonov_filter
from torch import Tensor

from stl_ray.csc import Dictionary, SolveStatus, reconstruct
from stl_ray.csc.cbpdn import choose_method

PEER_ITERATIONS = 200
PEER_TOLERANCE = 5e-3
"""The authors' MaxMainIter and RelStopTol; all else is SPORCO's default."""


@dataclass(frozen=True)
class Outcome:
    """One projected image.

    Attributes:
        image: (3, H, W) T(x) before clipping.
        l1: sum of the absolute coefficients.
        converged: by the contestant's own rule.
        iterations: as the contestant counts them.
    """

    image: Tensor
    l1: float
    converged: bool
    iterations: int


@dataclass(frozen=True)
class Contestant:
    """A method at an accuracy tier.

    Attributes:
        method: its name.
        tier: the accuracy asked for.
        project: the whole T of one image (3, H, W), split and synthesis included; this is what is timed.
        read: the outcome of what `project` returned.
    """

    method: str
    tier: str
    project: Callable[[Tensor], Any]
    read: Callable[[Any], Outcome]

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{self.method}, {self.tier}"


def contestants(dictionary: Dictionary, lmbda: float) -> list[Contestant]:
    """SPORCO first; then the CPU's own method at the default and the reference tier; then ADMM at the default tier."""
    own = best_method()
    pairs = [(own, "default"), (own, "reference"), *([("admm", "default")] if own != "admm" else [])]
    return [peer(dictionary, lmbda), *(ours(dictionary, lmbda, method, tier) for method, tier in pairs)]


def best_method() -> str:
    """What "auto" stands for here: "active_set" where the native core was built, else "admm"."""
    return choose_method(torch.float32, torch.device("cpu"))


def ours(dictionary: Dictionary, lmbda: float, method: str, tier: str) -> Contestant:
    """One of the package's methods."""

    def read(result: Any) -> Outcome:
        codes = result.codes
        converged = int(codes.status[0]) == SolveStatus.CONVERGED
        l1 = float(codes.coefficients.coalesce().values().double().abs().sum())
        return Outcome(result.images[0], l1, converged, int(codes.iterations[0]))

    return Contestant(
        method, tier, lambda image: reconstruct(image[None], dictionary, lmbda, method=method, accuracy=tier), read
    )


def peer(dictionary: Dictionary, lmbda: float, iterations: int = PEER_ITERATIONS) -> Contestant:
    """SPORCO: `tikhonov_filter`, `ConvBPDN` in float32 on one FFT thread, `reconstruct`."""
    filters = np.ascontiguousarray(dictionary.filters.permute(2, 3, 1, 0).numpy())  # (S, S, C, K)
    options = cbpdn.ConvBPDN.Options(
        {"Verbose": False, "MaxMainIter": iterations, "RelStopTol": PEER_TOLERANCE, "AuxVarObj": False}
    )
    sporco.fft.pyfftw_threads = 1

    def project(image: Tensor) -> Any:
        low, high = tikhonov_filter(image.permute(1, 2, 0).contiguous().numpy(), 5, 16)
        solver = cbpdn.ConvBPDN(filters, high, lmbda, options)
        solver.solve()
        return low + solver.reconstruct().squeeze(), solver

    def read(result: Any) -> Outcome:
        image, solver = result
        l1 = float(np.abs(solver.var_y()).sum(dtype=np.float64))
        return Outcome(torch.from_numpy(image).permute(2, 0, 1), l1, solver.k < iterations, solver.k)

    return Contestant("SPORCO", "as published", project, read)
