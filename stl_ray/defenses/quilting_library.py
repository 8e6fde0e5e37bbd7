"""The library of image quilting: patches of training images, with an index where they are searched approximately.

An artifact of format "quilting_library", version 1. Arrays: `patches` (N, 75) uint8, each (3, 5, 5) in C order; `index`,
where there is one, as faiss serialises it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from stl_ray.defenses.fitted import ArtifactRecipe
from stl_ray.defenses.quilting_index import PatchIndex
from stl_ray.defenses.quilting_search import VALUES, nearest_patches
from stl_ray.errors import ArtifactError, TensorError
from stl_ray.store import load_artifact, save_artifact

KIND, VERSION = "quilting_library", 1


class LibraryRecipe(ArtifactRecipe):
    """A library of patches at random places of all training images."""

    kind = KIND
    patches: int = Field(ge=1, description="how many")
    search: Literal["exact", "faiss"] = Field(description="faiss: with an index")

    def load(self, folder: str) -> "PatchLibrary":
        """See `ArtifactRecipe.load`."""
        library = PatchLibrary.load(folder)
        if self.search == "exact":
            return PatchLibrary(library.patches)
        if library.index is None:
            raise ArtifactError(
                "the library has no index", item=folder, expected="one fitted with search: faiss", got="search: exact"
            )
        return library


@dataclass(frozen=True, eq=False)
class PatchLibrary:
    """Patches to quilt with.

    Args:
        patches: (N, 75) uint8 on the CPU, each (3, 5, 5) in C order, N >= 1.
        index: of them, as `quilting_index.build_index` makes it; None: they are searched exactly.

    Raises:
        TensorError: the patches have another shape or type.
    """

    patches: Tensor
    index: NDArray[np.uint8] | None = None
    _copies: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        shape, kind = tuple(self.patches.shape), self.patches.dtype
        if kind != torch.uint8 or len(shape) != 2 or shape[0] < 1 or shape[1] != VALUES:
            raise TensorError("not a library of patches", expected=f"(N, {VALUES}) torch.uint8", got=f"{shape} {kind}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of whatever can change a search."""
        content = hashlib.sha256(self.patches.numpy().tobytes())
        if self.index is not None:
            content.update(self.index.tobytes())
        return content.hexdigest()

    def save(self, folder: str, meta: Mapping[str, Any]) -> str:
        """Write its artifact with a record; the digest."""
        arrays = {"patches": self.patches.numpy()} | ({} if self.index is None else {"index": self.index})
        return save_artifact(folder, KIND, VERSION, arrays, meta)

    @classmethod
    def load(cls, folder: str) -> "PatchLibrary":
        """The library in a folder.

        Raises:
            ArtifactError: it is missing, unreadable, altered, or of another version.
        """
        arrays = load_artifact(folder, KIND, VERSION).arrays
        return cls(torch.from_numpy(arrays["patches"]), arrays.get("index"))

    def on(self, device: torch.device) -> Tensor:
        """The patches on a device, to which they are copied once."""
        if device not in self._copies:
            self._copies[device] = self.patches.to(device)
        return self._copies[device]

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """See `quilting_search.nearest_patches`; with an index, those that seem nearest.

        A query for which the index has fewer than `k` is searched exactly.
        """
        if self._index is None:
            return nearest_patches(self.on(queries.device), queries, k)
        found = self._index.nearest(queries, k)
        short = (found < 0).any(1)
        if bool(short.any()):
            found[short] = nearest_patches(self.on(queries.device), queries[short], k)
        return found

    @cached_property
    def _index(self) -> PatchIndex | None:
        return None if self.index is None else PatchIndex(self.index)
