"""The dictionary of D3: natural patches without their means, each of norm 1."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.defenses.fitted import ArtifactRecipe
from stl_ray.errors import TensorError
from stl_ray.store import load_artifact, save_artifact
from stl_ray.store.artifacts import artifact_digest

KIND, VERSION = "patch_dictionary", 1


class DictionaryRecipe(ArtifactRecipe):
    """A dictionary of patches that differ, chosen of all training images."""

    kind = KIND
    atoms: int = Field(ge=1, description="how many")
    side: int = Field(ge=2, description="of an atom, pixels")
    similarity: float = Field(gt=0, le=1, description="largest |cosine| of two atoms")
    classifier: str | None = Field(
        None, description="whose saliency says where patches are drawn; None: everywhere alike"
    )

    @property
    def looks_with(self) -> str | None:
        """See `ArtifactRecipe.looks_with`."""
        return self.classifier

    def load(self, folder: str) -> "PatchDictionary":
        """See `ArtifactRecipe.load`."""
        return PatchDictionary.load(folder)


@dataclass(frozen=True, eq=False)
class PatchDictionary:
    """Atoms of matching pursuit.

    Args:
        atoms: (K, 3, side, side) float32 on the CPU; each channel has mean 0, all three together norm 1.
        digest: of the atoms.

    Raises:
        TensorError: the atoms are something else.
    """

    atoms: Tensor
    digest: str
    _copies: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        shape, kind = tuple(self.atoms.shape), self.atoms.dtype
        if kind != torch.float32 or len(shape) != 4 or 0 in shape or shape[1] != 3 or shape[2] != shape[3]:
            expected = "(K, 3, side, side) torch.float32"
            raise TensorError("not a dictionary of patches", expected=expected, got=f"{shape} {kind}")
        norms, means = self.atoms.flatten(1).norm(dim=1), self.atoms.mean((2, 3))
        if not (bool((norms - 1).abs().max() < 1e-3) and bool(means.abs().max() < 1e-3)):  # of NaN, neither
            got = f"norms {float(norms.min()):g} to {float(norms.max()):g}, means up to {float(means.abs().max()):g}"
            raise TensorError("the atoms are not normalised", expected="norm 1, means 0", got=got)

    def save(self, folder: str, meta: Mapping[str, Any]) -> str:
        """Write its artifact with a record; the digest."""
        return save_artifact(folder, KIND, VERSION, {"atoms": self.atoms.numpy()}, meta)

    @classmethod
    def load(cls, folder: str) -> "PatchDictionary":
        """The dictionary in a folder.

        Raises:
            ArtifactError: it is missing, unreadable, altered, or of another version.
        """
        arrays = load_artifact(folder, KIND, VERSION).arrays
        # Of the atoms alone: the record says too in which shards the images lay.
        return cls(torch.from_numpy(arrays["atoms"]), artifact_digest(KIND, VERSION, arrays, {}))

    @property
    def side(self) -> int:
        """Of a patch, in pixels."""
        return self.atoms.shape[2]

    def on(self, device: torch.device) -> Tensor:
        """The atoms (K, 3 side side) on a device, to which they are copied once."""
        if device not in self._copies:
            self._copies[device] = self.atoms.flatten(1).to(device)
        return self._copies[device]
