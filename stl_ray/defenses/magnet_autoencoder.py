"""The autoencoder of MagNet: three convolutions, each with a sigmoid, as an artifact. No pickle.

Source: Meng and Chen 2017, table 4, for CIFAR-10: 3 x 3 convolutions of 3 channels. Their networks for MNIST pool between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from stl_ray.defenses.fitted import ArtifactRecipe
from stl_ray.errors import ArtifactError
from stl_ray.store import load_artifact, save_artifact
from stl_ray.store.artifacts import artifact_digest

KIND, VERSION = "magnet", 1


class AutoencoderRecipe(ArtifactRecipe):
    """An autoencoder that was trained on windows of the training images."""

    kind = KIND
    width: int = Field(ge=1, description="channels of the hidden layers")
    noise: float = Field(ge=0, description="standard deviation of the noise that it learns to remove")
    epochs: int = Field(ge=1, description="passes over the windows")
    batch_size: int = Field(ge=1, description="windows of a step, at most")
    windows: int = Field(ge=2, description="how many, at most one of each image")
    side: int = Field(ge=1, description="of a window, pixels")

    def load(self, folder: str) -> "MagnetAutoencoder":
        """See `ArtifactRecipe.load`."""
        return MagnetAutoencoder.load(folder)

    def windows_of(self, images: int) -> int:
        """How many windows of so many images there are."""
        return min(self.windows, images)


WINDOW = "magnet window"
"""The purpose of the windows' draw: those of the smallest keys are taken."""


def held_out(windows: int) -> int:
    """How many of the windows, those of the smallest keys, the autoencoder does not learn from: a tenth, as in the paper."""
    return max(1, round(windows * 0.1))


class Autoencoder(nn.Module):
    """Images (B, 3, H, W) of any size -> images (B, 3, H, W) in (0, 1).

    Weights are drawn as Keras does, from the global generator: Glorot's uniform distribution, biases 0.

    Args:
        width: channels of both hidden layers.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, width, 3, padding=1)
        self.decoder = nn.Conv2d(width, width, 3, padding=1)
        self.output = nn.Conv2d(width, 3, 3, padding=1)
        for layer in (self.encoder, self.decoder, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, images: Tensor) -> Tensor:
        """The images, reconstructed."""
        for layer in (self.encoder, self.decoder, self.output):
            images = layer(images).sigmoid()
        return images


@dataclass(frozen=True, eq=False)
class MagnetAutoencoder:
    """A trained autoencoder.

    Args:
        weights: state of an `Autoencoder`, float32 on the CPU.
        digest: of the weights.
    """

    weights: Mapping[str, Tensor]
    digest: str
    _networks: dict[tuple[torch.device, torch.dtype], Autoencoder] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.like(torch.empty(0))  # refuses weights of another network

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> "MagnetAutoencoder":
        """The artifact of a network's state.

        Raises:
            ArtifactError: it is the state of another network, or not finite.
        """
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        # Of the weights alone: the record says too in which shards the images lay.
        return cls(kept, artifact_digest(KIND, VERSION, {name: one.numpy() for name, one in kept.items()}, {}))

    def save(self, folder: str, meta: Mapping[str, Any]) -> str:
        """Write its artifact with a record; the digest."""
        return save_artifact(folder, KIND, VERSION, {name: one.numpy() for name, one in self.weights.items()}, meta)

    @classmethod
    def load(cls, folder: str) -> "MagnetAutoencoder":
        """The autoencoder in a folder.

        Raises:
            ArtifactError: it is missing, unreadable, altered, of another version, of another network, or not finite.
        """
        arrays = load_artifact(folder, KIND, VERSION).arrays
        try:
            # Copies, since loaded arrays may be read-only views of the file's bytes.
            return cls.of({name: torch.tensor(array) for name, array in arrays.items()})
        except ArtifactError as error:
            raise ArtifactError(error.message, item=folder, expected=error.expected, got=error.got) from error

    def like(self, images: Tensor) -> Autoencoder:
        """The network on the images' device and of their type, to which it is copied once."""
        key = images.device, images.dtype
        if key not in self._networks:
            self._networks[key] = self._network().to(*key)
        return self._networks[key]

    def _network(self) -> Autoencoder:
        biases = self.weights.get("encoder.bias", torch.empty(0))
        with torch.device("meta"):
            network = Autoencoder(biases.numel() or 1)
        expected, got = _kinds(network.state_dict()), _kinds(self.weights)
        if got != expected:
            raise ArtifactError("not an autoencoder of MagNet", expected=expected, got=got)
        bad = [name for name, one in self.weights.items() if not bool(one.isfinite().all())]
        if bad:
            raise ArtifactError("weights that are not finite", got=", ".join(bad))
        network.load_state_dict(self.weights, assign=True)
        return network.requires_grad_(False).eval()


def _kinds(weights: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tuple(one.shape)} {one.dtype}" for name, one in weights.items()}
