"""What the diffusion defense is fitted with: a network that says the noise of an image, and the levels of it that it knows. No pickle."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from stl_ray.defenses.diffusion_process import LEVELS
from stl_ray.defenses.diffusion_unet import GROUPS, UNet
from stl_ray.defenses.fitted_network import NetworkRecipe
from stl_ray.errors import ArtifactError
from stl_ray.store import load_artifact, save_artifact
from stl_ray.store.artifacts import artifact_digest

KIND, VERSION = "diffusion", 1

SCHEDULE = "alpha_bars"
"""Name of the levels among the weights."""


class DenoiserRecipe(NetworkRecipe):
    """A denoiser that was trained on windows of the training images."""

    kind = KIND
    width: int = Field(ge=1, multiple_of=GROUPS, description="channels of the largest scale")
    levels: int = Field(ge=1, le=LEVELS, description="levels of noise that it learns, the lowest ones")
    learning_rate: float = Field(gt=0, description="of Adam")

    def load(self, folder: str) -> "DiffusionDenoiser":
        """See `ArtifactRecipe.load`."""
        return DiffusionDenoiser.load(folder)


@dataclass(frozen=True, eq=False)
class DiffusionDenoiser:
    """A trained denoiser.

    Args:
        weights: state of a `UNet`, float32 on the CPU.
        alpha_bars: a_1, a_2, ... of the levels that it was trained at, float64 on the CPU.
        digest: of both.
    """

    weights: Mapping[str, Tensor]
    alpha_bars: Tensor
    digest: str
    _networks: dict[tuple[torch.device, torch.dtype], UNet] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.like(torch.empty(0))  # refuses weights of another network

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], alpha_bars: Tensor) -> "DiffusionDenoiser":
        """The artifact of a network's state.

        Raises:
            ArtifactError: it is the state of another network, or not finite; or the levels are none.
        """
        _check_levels(alpha_bars)
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        # Of these alone: the record says too in which shards the images lay.
        return cls(kept, alpha_bars, artifact_digest(KIND, VERSION, _arrays(kept, alpha_bars), {}))

    def save(self, folder: str, meta: Mapping[str, Any]) -> str:
        """Write its artifact with a record; the digest."""
        return save_artifact(folder, KIND, VERSION, _arrays(self.weights, self.alpha_bars), meta)

    @classmethod
    def load(cls, folder: str) -> "DiffusionDenoiser":
        """The denoiser in a folder.

        Raises:
            ArtifactError: it is missing, unreadable, altered, of another version, of another network, or not finite.
        """
        # Copies, since loaded arrays may be read-only views of the file's bytes.
        tensors = {name: torch.tensor(array) for name, array in load_artifact(folder, KIND, VERSION).arrays.items()}
        try:
            return cls.of(tensors, tensors.pop(SCHEDULE, torch.empty(0)))
        except ArtifactError as error:
            raise ArtifactError(error.message, item=folder, expected=error.expected, got=error.got) from error

    @property
    def levels(self) -> int:
        """Levels of noise that it was trained at, the lowest ones."""
        return len(self.alpha_bars)

    def like(self, images: Tensor) -> UNet:
        """The network on the images' device and of their type, to which it is copied once."""
        key = images.device, images.dtype
        if key not in self._networks:
            self._networks[key] = self._network().to(*key)
        return self._networks[key]

    def _network(self) -> UNet:
        width = len(self.weights.get("first.bias", ()))
        with torch.device("meta"):
            network = UNet(width if width and width % GROUPS == 0 else GROUPS)
        expected, got = _kinds(network.state_dict()), _kinds(self.weights)
        if got != expected:
            raise ArtifactError("not a network of this defense", expected=expected, got=got)
        bad = [name for name, one in self.weights.items() if not bool(one.isfinite().all())]
        if bad:
            raise ArtifactError("weights that are not finite", got=", ".join(bad))
        network.load_state_dict(self.weights, assign=True)
        return network.requires_grad_(False).eval()


def _check_levels(alpha_bars: Tensor) -> None:
    """Refuse what is no falling sequence between 1 and 0."""
    known = alpha_bars.dtype == torch.float64 and alpha_bars.dim() == 1 and len(alpha_bars) > 0
    if known and bool((torch.cat([torch.ones(1), alpha_bars, torch.zeros(1)]).diff() < 0).all()):
        return
    expected = "(levels >= 1,) torch.float64, falling between 1 and 0"
    raise ArtifactError("no levels of noise", expected=expected, got=f"{tuple(alpha_bars.shape)} {alpha_bars.dtype}")


def _arrays(weights: Mapping[str, Tensor], alpha_bars: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.numpy() for name, tensor in {**weights, SCHEDULE: alpha_bars}.items()}


def _kinds(weights: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tuple(one.shape)} {one.dtype}" for name, one in weights.items()}
