"""Images behind a transformation, with the record of how each was made."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

APPLIED = "applied"
"""Status of an image behind a defense that has only one outcome."""

DIVERGED = "diverged"
"""Status of an image whose solve did not stay finite: it has no purified image."""


@dataclass(frozen=True)
class Purified:
    """Images behind a defense, one entry per image."""

    images: Tensor  # (B, 3, H, W) in [0, 1], before they are rounded to 8 bits
    cluster: Tensor  # (B,) int16, whose dictionary was used; -1: none
    iterations: Tensor  # (B,) int16, of the solver; 0: none
    status: list[str]  # of the solve (converged, max_iterations, diverged), or applied
    sparsity: Tensor  # (B,) float32, share of non-zero coefficients; NaN: there are none

    @classmethod
    def without_solver(cls, images: Tensor) -> "Purified":
        """The record of a defense that has neither clusters nor a solver."""
        count, device = len(images), images.device
        return cls(
            images=images,
            cluster=torch.full((count,), -1, dtype=torch.int16, device=device),
            iterations=torch.zeros(count, dtype=torch.int16, device=device),
            status=[APPLIED] * count,
            sparsity=torch.full((count,), torch.nan, device=device),
        )

    @property
    def diverged(self) -> Tensor:
        """(B,) bool: the images whose solve diverged."""
        return torch.tensor([status == DIVERGED for status in self.status], device=self.images.device)


def record_of(views: Sequence[Purified]) -> Purified:
    """The record of all views of some images: of one view its own.

    Several views have no one purified image: its pixels are NaN, and an image diverged if one of its views did.
    """
    if len(views) == 1:
        return views[0]
    record = Purified.without_solver(torch.full_like(views[0].images, torch.nan))
    lost = torch.stack([view.diverged for view in views]).any(0).tolist()
    record.status[:] = [DIVERGED if one else APPLIED for one in lost]
    return record
