"""What a solve returns and how exact it was asked to be; the types that every method shares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Self

import torch
from torch import Tensor


class SolveStatus(IntEnum):
    """How the solve of one image ended."""

    CONVERGED = 0  # within the accuracy's tolerances
    MAX_ITERATIONS = 1  # stopped before that; usable, and counted
    DIVERGED = 2  # not finite


@dataclass(frozen=True, eq=False)
class Codes:
    """Sparse codes of a batch, what they synthesise, and how well each image was solved.

    Attributes:
        coefficients: (B, K, H, W), torch.sparse_coo (coalesced) where the method makes them so, else strided, with
            exact zeros off the support.
        synthesis: (B, C, H, W) D z, the coded high band, in the type of the signal.
        status: (B,) int64, values of SolveStatus.
        iterations: (B,) int64.
        gap: (B,) float64, certified relative duality gap; NaN where the accuracy asks for no certificate.
    """

    coefficients: Tensor
    synthesis: Tensor
    status: Tensor
    iterations: Tensor
    gap: Tensor

    @property
    def maps(self) -> Tensor:
        """The coefficients as a strided (B, K, H, W) tensor, whatever they are kept as."""
        return self.coefficients.to_dense() if self.coefficients.is_sparse else self.coefficients

    @property
    def support(self) -> Tensor:
        """Where the coefficients are not zero: (4, n) int64 of image, filter, row, column, in that order of sorting."""
        if not self.coefficients.is_sparse:
            return self.coefficients.nonzero().T
        return self.coefficients.indices()[:, self.coefficients.values() != 0]

    @property
    def sparsity(self) -> Tensor:
        """The share of every image's coefficients that are not zero, (B,) float32."""
        count, filters, height, width = self.coefficients.shape
        return torch.bincount(self.support[0], minlength=count) / (filters * height * width)

    def sparse(self) -> Self:
        """The same with sparse coefficients: a few per cent of the memory."""
        return self if self.coefficients.is_sparse else replace(self, coefficients=self.coefficients.to_sparse())

    def select(self, images: Tensor) -> "Codes":
        """The codes of the images with these indices (b,), in their order."""
        return Codes(*(_coalesced(part.index_select(0, images)) for part in self._parts()))

    @classmethod
    def cat(cls, pieces: Sequence[Self]) -> "Codes":
        """The codes of several batches as one; all sparse or all strided."""
        return cls(*(_coalesced(torch.cat(p)) for p in zip(*(piece._parts() for piece in pieces), strict=True)))

    def _parts(self) -> tuple[Tensor, ...]:
        return self.coefficients, self.synthesis, self.status, self.iterations, self.gap


def _coalesced(part: Tensor) -> Tensor:
    return part.coalesce() if part.is_sparse else part


@dataclass(frozen=True)
class Descent:
    """When coordinate descent stops, on what it returns.

    Args:
        violation: |D^T (s - D Z)| may exceed lambda by at most this share where Z is zero.
        change: the largest change of a coefficient in the last sweep, in lambdas.
        max_iterations: of screening and sweeps.
    """

    violation: float = 0.05
    change: float = 0.1
    max_iterations: int = 500

    def tightened(self, factor: float) -> "Descent":
        """Both tolerances times `factor`."""
        return replace(self, violation=self.violation * factor, change=self.change * factor)


@dataclass(frozen=True)
class Accuracy:
    """When a solve stops.

    Args:
        penalty: rho / (lambda ||d||), the ADMM penalty in units that carry over between lambdas and norm conventions.
        violation: |D^T (s - D X)| may exceed lambda by at most this share. Proved for ADMM's primal iterate X; for the
            returned codes Y, which differ from X by the primal residual, see `ACCURACIES`.
        change: the primal residual relative to the code, ||X - Y|| / ||Y||.
        max_iterations: the image is given up (and kept, with its status) after this many.
        gap: certified relative duality gap in float64 instead of the two conditions above.
    """

    penalty: float
    violation: float
    change: float
    max_iterations: int
    gap: float | None = None
    descent: Descent = Descent()


ACCURACIES = {
    "default": Accuracy(penalty=30, violation=0.2, change=1e-2, max_iterations=200),
    "reference": Accuracy(penalty=20, violation=0.1, change=3e-3, max_iterations=400, descent=Descent(0.01, 0.03)),
    "exact": Accuracy(penalty=20, violation=0, change=0, max_iterations=20_000, gap=1e-5, descent=Descent(1e-3, 1e-3)),
}
"""The tiers: median error of the projected image about 5e-3, 2e-3, and certified.

Over 48 crops of 32 pixels, clean and noisy, and lambdas from half to twice the dictionary's, the returned codes
violated the dual constraint by 8 % of lambda in the median and 41 % at worst at the default tier (at the dictionary's
own lambda 19 %), and by 3 % and 12 % at the reference tier. The exact tier certifies the returned codes themselves.
"""
