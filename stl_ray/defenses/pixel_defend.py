"""PixelDefend: an image is replaced by the likeliest one near it, by a network that has learned what images are like.

Value by value, every level within `eps_defend` of the image's is asked for its probability given those chosen before it,
and the likeliest is taken. By the default network that takes about a tenth of a second of one core for an image of 32 x 32
pixels among others, and 49 times as long for one of 224 x 224 (`python -m benchmarks.defenses.pixel_defend` measures it).

Source: Song et al. 2018, algorithm 1, and their published code, whose default is 10; its README and the attack of Athalye et
al. 2018 say 16. Their network is PixelCNN++, ours is much smaller. It sees of the pixels before what was chosen for them;
ART's implementation shows it the attacked image instead. The adaptive variant, which leaves alone what is likely
already, is not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.csc import check_images
from stl_ray.defenses.base import Transformation
from stl_ray.defenses.fitted_network import NetworkOptions
from stl_ray.defenses.greedy_decoding import decoded
from stl_ray.defenses.pixel_cnn import FittedPixelCnn, PixelCnnRecipe
from stl_ray.defenses.purified import Purified
from stl_ray.tiling import in_tiles

TILE = 16
"""Images that are decoded together; fewer take as long."""


class PixelDefendOptions(NetworkOptions):
    """The options of pixel_defend."""

    eps_defend: int = Field(16, ge=1, le=255, description="how far a value may be changed, in levels of 255")
    width: int = Field(32, ge=1, le=1024, description="channels of the network; time grows with their square")
    layers: int = Field(
        6, ge=1, le=100, description="of the network; it sees about so many rows and columns around a pixel"
    )
    mixtures: int = Field(5, ge=1, le=100, description="logistics that the distribution of a value is a mixture of")
    epochs: int = Field(2, ge=1, description="of its training, by Adam at a falling rate")
    batch_size: int = Field(16, ge=1, description="windows of a step, at most")

    @property
    def recipe(self) -> PixelCnnRecipe:
        """The network."""
        return PixelCnnRecipe(
            width=self.width, layers=self.layers, mixtures=self.mixtures, epochs=self.epochs, batch_size=self.batch_size,
            windows=self.windows, side=self.side,
        )  # fmt: skip


@dataclass(frozen=True)
class PixelDefend(Transformation):
    """Replaces every image by the likeliest one near it, greedily.

    Args:
        pixel_cnn: by which it is likely.
        eps_defend: how far a value may be changed, in levels of 255.
    """

    pixel_cnn: FittedPixelCnn
    eps_defend: int
    name = "pixel_defend"

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "pixel_cnn": self.pixel_cnn.digest, "eps_defend": self.eps_defend}

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`; images are rounded to 8 bits first.

        Raises:
            TensorError: they have another shape or type, or are not finite.
        """
        check_images(images, channels=3, side=1)
        network, levels = self.pixel_cnn.like(images), (images.detach() * 255).round().clamp(0, 255)
        with torch.autocast(images.device.type, enabled=False):
            (chosen,) = in_tiles(lambda tile: (decoded(network, tile, self.eps_defend),), levels, size=TILE)
        return Purified.without_solver(chosen / 255)
