"""The autoencoder of MagNet: three convolutions, each with a sigmoid, as an artifact.

Source: Meng and Chen 2017, table 4, for CIFAR-10: 3 x 3 convolutions of 3 channels. Their networks for MNIST pool between.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from stl_ray.defenses.fitted_network import FittedNetwork, NetworkRecipe

KIND, VERSION = "magnet", 1


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


class MagnetAutoencoder(FittedNetwork[Autoencoder]):
    """A trained autoencoder."""

    kind, version, described = KIND, VERSION, "an autoencoder of MagNet"

    @staticmethod
    def shaped(weights: Mapping[str, Tensor]) -> Autoencoder:
        """See `FittedNetwork.shaped`."""
        return Autoencoder(weights.get("encoder.bias", torch.empty(0)).numel() or 1)


class AutoencoderRecipe(NetworkRecipe):
    """An autoencoder that was trained on windows of the training images."""

    kind = KIND
    width: int = Field(ge=1, description="channels of the hidden layers")
    noise: float = Field(ge=0, description="standard deviation of the noise that it learns to remove")

    def load(self, folder: str) -> MagnetAutoencoder:
        """See `ArtifactRecipe.load`."""
        return MagnetAutoencoder.load(folder)
