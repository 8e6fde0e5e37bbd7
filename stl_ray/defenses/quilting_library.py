"""The library of image quilting: patches of training images, and the nearest ones of a patch.

The squared distance of q and r, less |q|^2, is |r|^2 - 2 q.r. Levels are whole numbers up to 255, so that every product
and every partial sum is one below 2^24, which float32 has exactly: scores by matrix products are exact, whatever the
batch, the blocks and the device, and ties go to the lower index.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.defenses.fitted import ArtifactRecipe
from stl_ray.defenses.quilting_seams import SIDE
from stl_ray.errors import TensorError
from stl_ray.store import load_artifact, save_artifact
from stl_ray.store.artifacts import artifact_digest

VALUES = 3 * SIDE * SIDE
"""Of a patch."""

FARTHEST = 2**23
"""More than any score, which are VALUES * 255^2 at most."""

GROUP = 64
"""Patches of a group: of most groups only the least score is looked at."""

QUERIES, BLOCK = 512, 2**15
"""Queries and patches whose scores are computed together, 64 MB."""


KIND, VERSION = "quilting_library", 1


class LibraryRecipe(ArtifactRecipe):
    """A library of patches at random places of all training images."""

    kind = KIND
    patches: int = Field(ge=1, description="how many")

    def load(self, folder: str) -> "PatchLibrary":
        """See `ArtifactRecipe.load`."""
        return PatchLibrary.load(folder)


@dataclass(frozen=True, eq=False)
class PatchLibrary:
    """Patches to quilt with.

    Args:
        patches: (N, 75) uint8 on the CPU, each (3, 5, 5) in C order, N >= 1.
        digest: of the patches.
    """

    patches: Tensor
    digest: str
    _copies: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        shape, kind = tuple(self.patches.shape), self.patches.dtype
        if kind != torch.uint8 or len(shape) != 2 or shape[0] < 1 or shape[1] != VALUES:
            raise TensorError("not a library of patches", expected=f"(N, {VALUES}) torch.uint8", got=f"{shape} {kind}")

    def save(self, folder: str, meta: Mapping[str, Any]) -> str:
        """Write its artifact with a record; the digest."""
        return save_artifact(folder, KIND, VERSION, {"patches": self.patches.numpy()}, meta)

    @classmethod
    def load(cls, folder: str) -> "PatchLibrary":
        """The library in a folder.

        Raises:
            ArtifactError: it is missing, unreadable, altered, or of another version.
        """
        arrays = load_artifact(folder, KIND, VERSION).arrays
        # Of the patches alone: the record says too in which shards the images lay.
        return cls(torch.from_numpy(arrays["patches"]), artifact_digest(KIND, VERSION, arrays, {}))

    def on(self, device: torch.device) -> Tensor:
        """The patches on a device, to which they are copied once."""
        if device not in self._copies:
            self._copies[device] = self.patches.to(device)
        return self._copies[device]

    @torch.no_grad()
    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """The `k` nearest patches of every query by Euclidean distance, from the nearest on, ties by the lower index.

        Args:
            queries: (Q, 75) float32 levels, whole numbers from 0 to 255; searched where they are.
            k: 1 to N.

        Returns:
            (Q, k) int64 indices.

        Raises:
            TensorError: k is out of range, or the queries have another shape.
        """
        count = len(self.patches)
        if not 1 <= k <= count:
            raise TensorError("a library has too few patches for so many neighbours", expected=f"1 to {count}", got=k)
        if queries.dim() != 2 or queries.shape[1] != VALUES:
            raise TensorError("not patches", expected=f"(Q, {VALUES})", got=tuple(queries.shape))
        best = [queries.new_empty((len(part), 0), dtype=torch.int64) for part in torch.split(queries, QUERIES)]
        for start in range(0, count, BLOCK):
            block = self.on(queries.device)[start : start + BLOCK].float()
            norms = block.square().sum(1)
            with torch.autocast(queries.device.type, enabled=False):
                for number, part in enumerate(torch.split(queries, QUERIES)):
                    keys = _least(torch.addmm(norms, part, block.T, alpha=-2), k, start)
                    best[number] = _smallest(torch.cat([best[number], keys], 1), k)
        return torch.cat(best) & (2**32 - 1) if best else queries.new_empty((0, k), dtype=torch.int64)


def _least(scores: Tensor, k: int, start: int) -> Tensor:
    """Keys (Q, at most k) of the least of the scores (Q, n) of patches `start`, `start` + 1, ...

    They are in the k groups whose least keys are the least: each of those has a smaller key than any other group.
    """
    padded = torch.nn.functional.pad(scores, (0, -scores.shape[1] % GROUP), value=FARTHEST)
    groups = padded.view(len(scores), padded.shape[1] // GROUP, GROUP)
    least = _smallest(_keys(groups.amin(2), torch.arange(groups.shape[1], device=scores.device)), k) & (2**32 - 1)
    chosen = groups.gather(1, least[..., None].expand(-1, -1, GROUP))
    indices = least[..., None] * GROUP + torch.arange(GROUP, device=scores.device)
    return _smallest(_keys(chosen, indices + start).flatten(1), k)


def _keys(scores: Tensor, indices: Tensor) -> Tensor:
    """Whole numbers in the order of scores, then of indices, which are their lower 32 bits."""
    return (scores.long() << 32) + indices


def _smallest(keys: Tensor, k: int) -> Tensor:
    return keys.topk(min(k, keys.shape[1]), largest=False, sorted=True).values
