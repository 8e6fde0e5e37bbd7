"""Result and accuracy of a solve: the types that every method shares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Self

import torch
from torch import Tensor


class SolveStatus(IntEnum):
    """How the solve of one image ended."""

    CONVERGED = 0  # within the accuracy's tolerances, as the kind of method judges them (`Splitting`, `Descent`)
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
        """Indices of the nonzero coefficients: (4, n) int64 of image, filter, row, column, sorted in that order."""
        if not self.coefficients.is_sparse:
            return self.coefficients.nonzero().T
        return self.coefficients.indices()[:, self.coefficients.values() != 0]

    @property
    def sparsity(self) -> Tensor:
        """The share of every image's coefficients that are not zero, (B,) float32."""
        count, filters, height, width = self.coefficients.shape
        return torch.bincount(self.support[0], minlength=count) / (filters * height * width)

    def sparse(self) -> Self:
        """The same codes with sparse coefficients: a few per cent of the memory."""
        return self if self.coefficients.is_sparse else replace(self, coefficients=self.coefficients.to_sparse())

    def select(self, images: Tensor) -> "Codes":
        """The codes of the images with these indices (b,), in their order."""
        return Codes(*(_coalesced(part.index_select(0, images)) for part in self._parts()))

    def cleared(self, images: Tensor) -> Self:
        """The codes with no coefficient left in the images where `images` (B,) bool is true; sparse."""
        sparse = self.sparse().coefficients
        kept = ~images[sparse.indices()[0]]
        coefficients = torch.sparse_coo_tensor(
            sparse.indices()[:, kept], sparse.values()[kept], sparse.shape, is_coalesced=True, check_invariants=False
        )
        return replace(self, coefficients=coefficients)

    @classmethod
    def cat(cls, pieces: Sequence[Self]) -> "Codes":
        """The codes of several batches as one; all sparse or all strided."""
        if len(pieces) == 1:
            return pieces[0]
        return cls(*(_coalesced(torch.cat(p)) for p in zip(*(piece._parts() for piece in pieces), strict=True)))

    def _parts(self) -> tuple[Tensor, ...]:
        return self.coefficients, self.synthesis, self.status, self.iterations, self.gap


def _coalesced(part: Tensor) -> Tensor:
    return part.coalesce() if part.is_sparse else part


@dataclass(frozen=True)
class Splitting:
    """Stopping rule of a splitting method (`admm`, `fused`), on its primal iterate X; it returns Y, which is sparse.

    Args:
        penalty: rho / (lambda ||d||), in units that carry over between lambdas and norm conventions.
        violation: |D^T (s - D X)| may exceed lambda by at most this share.
        change: the primal residual relative to the code, ||X - Y|| / ||Y||.
        max_iterations: the image is given up (and kept, with its status) after this many.
    """

    penalty: float
    violation: float
    change: float
    max_iterations: int


@dataclass(frozen=True)
class Descent:
    """Stopping rule of coordinate descent (`active_set`), on the code Z that it returns.

    Args:
        violation: |D^T (s - D Z)| may exceed lambda by at most this share where Z is zero.
        change: the largest change of a coefficient in the last sweep, in lambdas.
        max_iterations: rounds of screening and sweeps, as above.
    """

    violation: float
    change: float
    max_iterations: int

    def tightened(self, factor: float) -> "Descent":
        """Both tolerances times `factor`."""
        return replace(self, violation=self.violation * factor, change=self.change * factor)


@dataclass(frozen=True)
class Accuracy:
    """Stopping rules of a solve: one for each kind of method, or a certificate.

    Args:
        splitting: of `admm` and `fused`.
        descent: of `active_set`.
        gap: certified relative duality gap of the codes, in float64, instead of the rules; these then say where a
            method that works in single precision first computes it.
    """

    splitting: Splitting
    descent: Descent
    gap: float | None = None


ACCURACIES = {
    "default": Accuracy(Splitting(30, 0.2, 8e-3, 200), Descent(0.05, 0.1, 500)),
    "reference": Accuracy(Splitting(20, 0.1, 3e-3, 400), Descent(0.01, 0.03, 500)),
    "exact": Accuracy(Splitting(20, 1e-4, 1e-5, 20_000), Descent(1e-3, 1e-3, 2000), gap=1e-5),
}
"""The tiers: median relative error of the projected image at most 5e-3, at most 2e-3, and certified.

benchmarks/results/projection-cpu.md has the measured errors. The code Y of ADMM at the default tier violates the dual
constraint by more than X does: over 48 crops of 32 pixels, clean and noisy, and lambdas from half to twice the
dictionary's, by 8 % of lambda in the median and 41 % at worst (at the dictionary's own lambda 19 %), and at the
reference tier by 3 % and 12 %.
"""
