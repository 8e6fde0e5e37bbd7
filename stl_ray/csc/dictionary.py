"""A convolutional dictionary: unit-norm filters, the norm convention they keep, and the lambda they were learned at.

Two conventions exist and are different sets, not a change of unit (Sun et al. 2019, Eq. 2, against the authors' files):
`joint`, ||d_k|| = 1 over all channels together, and `per_channel`, ||d_{k,c}|| = 1 in each channel. A filter of unit
norm in each of C channels has joint norm sqrt(C), and lambda scales with it.
"""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from stl_ray.errors import DictionaryError
from stl_ray.options import require_known
from stl_ray.store.authors_file import read_authors_file

Norm = Literal["joint", "per_channel"]

NORM_TOLERANCE = 1e-4
"""Largest deviation of a filter's norm from 1; the authors' files keep 3e-7."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Filters that code the high-pass part of images. Equal when their digests are.

    Args:
        filters: (K, C, S, S) float32, C in RGB order; the filter's origin is its top left corner. They are copied, and the
            copy is not to be changed: the solvers keep what they have made of it.
        lmbda: the l1 weight that it was learned at, for pixels in [0, 1], in the convention of `norm`.
        norm: "joint" or "per_channel".

    Raises:
        DictionaryError: the shape, the norms or lambda are not of that form.
    """

    filters: Tensor
    lmbda: float
    norm: Norm = "joint"
    _version: int = field(init=False, repr=False)  # of the filters: torch counts changes in place
    _digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        filters = self.filters
        if filters.dtype != torch.float32:
            raise DictionaryError("filters of another type", expected=torch.float32, got=filters.dtype)
        if filters.dim() != 4 or 0 in filters.shape or filters.shape[2] != filters.shape[3]:
            raise DictionaryError("filters of another shape", expected="(K, C, S, S)", got=tuple(filters.shape))
        require_known(self.norm, get_args(Norm), kind="norm convention", error=DictionaryError)
        if not 0 < self.lmbda < float("inf"):
            raise DictionaryError("lambda out of range", expected="a positive number", got=self.lmbda)
        norms = filters.double().flatten(1 if self.norm == "joint" else 2).norm(dim=-1)
        worst = float((norms - 1).abs().max())
        if not worst <= NORM_TOLERANCE:
            raise DictionaryError(
                f"filters break their {self.norm} norm convention",
                expected=f"norms within {NORM_TOLERANCE:g} of 1",
                got=f"a deviation of {worst:.3g}",
            )
        # A normal tensor in inference mode too, whose changes are counted.
        with torch.inference_mode(mode=False):
            object.__setattr__(self, "filters", filters.detach().clone())
        object.__setattr__(self, "_version", self.filters._version)
        object.__setattr__(self, "_digest", self._hashed())

    @classmethod
    def from_reference(cls, path: str | Path, lmbda: float | None = None) -> Self:
        """Import one of the authors' files: (S, S, C, K) float32, channels in BGR order, joint unit norm.

        Args:
            path: path or URI of a .npy file; the authors name it K_pS_lmLAMBDA.npy.
            lmbda: lambda it was learned at; read from the file's name when absent.

        Raises:
            DictionaryError: the file is missing, holds Python objects, or is not such an array.
        """
        file = read_authors_file(path, lmbda)
        return cls(torch.from_numpy(file.filters), file.lmbda)

    @property
    def digest(self) -> str:
        """SHA-256 over the filters, lambda and the convention.

        Raises:
            DictionaryError: the filters were changed in place.
        """
        self.require_unchanged()
        return self._digest

    def require_unchanged(self) -> None:
        """Refuse filters that are not those of the dictionary's making.

        Raises:
            DictionaryError: the filters were changed in place.
        """
        if self.filters._version != self._version:
            expected = "a new Dictionary of the changed filters"
            raise DictionaryError("the filters of a dictionary were changed in place", expected=expected)

    def _hashed(self) -> str:
        content = hashlib.sha256(repr((tuple(self.filters.shape), self.lmbda, self.norm)).encode())
        content.update(self.filters.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
        return content.hexdigest()

    def __reduce__(self) -> tuple[object, ...]:
        """Copied and pickled through the constructor: what fills a tensor counts as a change of it."""
        return type(self), (self.filters, self.lmbda, self.norm)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dictionary) and self._digest == other._digest

    def __hash__(self) -> int:
        # Of the filters as they were made: a dictionary that was changed can still be found in a cache, and leave it.
        return hash(self._digest)

    def to(self, device: torch.device | str) -> Self:
        """The same dictionary on another device."""
        return replace(self, filters=self.filters.to(device))

    @property
    def channels(self) -> int:
        """C, the number of image channels."""
        return self.filters.shape[1]

    @property
    def side(self) -> int:
        """S, the filters' side in pixels."""
        return self.filters.shape[2]
