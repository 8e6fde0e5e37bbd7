"""MagNet's reformer: an image as an autoencoder of training images reconstructs it.

Source: Meng and Chen 2017, section 4.3; options are those of their CIFAR-10 network (tables 4 and 5). Their detectors,
which refuse images, are not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.csc import check_images
from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.fitted_network import NetworkOptions
from stl_ray.defenses.magnet_autoencoder import AutoencoderRecipe, MagnetAutoencoder
from stl_ray.tiling import in_tiles

TILE = 8
"""Images that pass the network together."""


class MagnetOptions(NetworkOptions):
    """The options of magnet."""

    width: int = Field(3, ge=1, le=1024, description="channels of the autoencoder's hidden layers")
    noise: float = Field(
        0.025, ge=0, le=1, description="standard deviation of the noise that it learns to remove, of pixels in [0, 1]"
    )
    epochs: int = Field(400, ge=1, description="of its training, by Adam")
    batch_size: int = Field(256, ge=1, description="windows of a step, at most")

    @property
    def recipe(self) -> AutoencoderRecipe:
        """The autoencoder."""
        return AutoencoderRecipe(
            width=self.width, noise=self.noise, epochs=self.epochs, batch_size=self.batch_size,
            windows=self.windows, side=self.side,
        )  # fmt: skip


@dataclass(frozen=True)
class MagNet(TransformationByAutograd):
    """Reconstructs every image.

    Args:
        autoencoder: that does.
    """

    autoencoder: MagnetAutoencoder
    name = "magnet"

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "autoencoder": self.autoencoder.digest}

    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `TransformationByAutograd.transformed`; float64 images in float64, for finite differences.

        Raises:
            TensorError: they have another shape or type, or are not finite.
        """
        check_images(images, channels=3, side=1)
        network = self.autoencoder.like(images)
        with torch.autocast(images.device.type, enabled=False):
            return in_tiles(lambda tile: (network(tile),), images, size=TILE)[0]
