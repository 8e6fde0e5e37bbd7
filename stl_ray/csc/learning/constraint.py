"""The set that filters are learned in: unit norm jointly over the channels or in each of them, and zero mean or not.

Sources: Sun et al. 2019, Eq. 2 (unit norm in each channel); the authors' published dictionaries (unit norm jointly over
the channels, zero mean in each).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stl_ray.csc.dictionary import Norm

FLAT = 1e-3
"""Norm of a patch of the high band below which it is flat and tells a filter nothing."""


@dataclass(frozen=True)
class ConstraintSet:
    """Filters (K, C, S, S) of unit norm.

    Args:
        norm: "joint", ||d_k|| = 1, or "per_channel", ||d_{k,c}|| = 1.
        zero_mean: whether every channel of a filter has zero mean too.
    """

    norm: Norm = "joint"
    zero_mean: bool = True

    def project(self, filters: Tensor) -> Tensor:
        """The nearest filters of the set; those that are zero have none and become NaN."""
        centred = self.centre(filters)
        unit: Tensor = centred / self._norms(centred)
        return unit

    def centre(self, filters: Tensor) -> Tensor:
        """The nearest filters of zero mean in every channel, where the set asks for that."""
        return filters - filters.mean((2, 3), keepdim=True) if self.zero_mean else filters

    def textured(self, patches: Tensor) -> Tensor:
        """Which of the patches (n, C, S, S) can become filters, (n,) bool."""
        large = self._norms(self.centre(patches)) > FLAT
        return large.flatten(1).all(dim=1)

    def _norms(self, filters: Tensor) -> Tensor:
        axes = (1, 2, 3) if self.norm == "joint" else (2, 3)
        norms: Tensor = torch.linalg.vector_norm(filters, dim=axes, keepdim=True)
        return norms
