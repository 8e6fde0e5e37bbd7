"""A network that says how likely each level of a pixel is, given the pixels above it and to its left.

Two stacks of gated convolutions, as in the gated PixelCNN: one sees the rows above, the other what lies to the left in the
pixel's own row, and the first at every layer. A layer is x + a * sigmoid(b), a and b of one convolution. What it says
of a pixel is a mixture of logistics (`logistic_mixture`). Source: van den Oord et al. 2016, Salimans et al. 2017;
much smaller than the network of the latter, and of one resolution.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from stl_ray.defenses.fitted_network import FittedNetwork, NetworkRecipe
from stl_ray.defenses.logistic_mixture import PER_COMPONENT, SCALES, scaled

KIND, VERSION = "pixel_cnn", 1

FIRST_LOG_SCALE = -2.5
"""Of the logistics before training: ten levels, so that it begins with what neighbours say and not with how wide they are."""


class GatedLayer(nn.Module):
    """A layer of both stacks.

    Args:
        width: channels of each.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.above = nn.Conv2d(width, 2 * width, (2, 3))
        self.across = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.left = nn.Conv2d(width, 2 * width, (1, 2))

    def forward(self, above: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks (B, width, H, W), a layer further."""
        above = above + F.glu(self.above(F.pad(above, (1, 1, 1, 0))), 1)
        return above, left + F.glu(self.left(F.pad(left, (1, 0))) + self.across(above), 1)


class PixelCnn(nn.Module):
    """Levels (B, 3, H, W), 0 to 255, of any size -> (B, H, W, 10 K) numbers, of each pixel its mixture.

    What it says of a pixel depends on the pixels above and to the left of it alone. Weights are drawn from the global
    generator.

    Args:
        width: channels of each stack.
        layers: of both.
        mixtures: K, logistics that a value's distribution is a mixture of.
    """

    def __init__(self, width: int, layers: int, mixtures: int) -> None:
        super().__init__()
        self.above = nn.Conv2d(4, width, (2, 3))
        self.left = nn.Conv2d(4, width, (1, 2))
        self.layers: Any = nn.ModuleList(GatedLayer(width) for _ in range(layers))
        self.output = nn.Conv2d(width, PER_COMPONENT * mixtures, 1)
        nn.init.constant_(self.output.get_parameter("bias").view(PER_COMPONENT, -1)[SCALES], FIRST_LOG_SCALE)

    def forward(self, levels: Tensor) -> Tensor:
        """The numbers of every pixel's mixture."""
        pixels = with_ones(levels)
        above = self.above(F.pad(pixels, (1, 1, 2, 0))[:, :, :-1])
        left = self.left(F.pad(pixels, (2, 0))[..., :-1]) + above
        for layer in self.layers:
            above, left = layer(above, left)
        numbers: Tensor = self.output(left)
        return numbers.movedim(1, -1)


def with_ones(levels: Tensor) -> Tensor:
    """Levels (B, 3, ...) as (B, 4, ...): values in [-1, 1], and 1 where there is a pixel and no border."""
    return torch.cat([scaled(levels), torch.ones_like(levels[:, :1])], 1)


class FittedPixelCnn(FittedNetwork[PixelCnn]):
    """A trained network."""

    kind, version, described = KIND, VERSION, "a network of PixelDefend"

    @staticmethod
    def shaped(weights: Mapping[str, Tensor]) -> PixelCnn:
        """See `FittedNetwork.shaped`."""

        def size(name: str) -> int:
            return weights.get(name, torch.empty(0)).numel()

        layers = sum(name.startswith("layers.") and name.endswith(".above.bias") for name in weights)
        return PixelCnn(size("above.bias") or 1, max(1, layers), max(1, size("output.bias") // PER_COMPONENT))


class PixelCnnRecipe(NetworkRecipe):
    """A network that was trained on windows of the training images."""

    kind = KIND
    width: int = Field(ge=1, description="channels of each stack")
    layers: int = Field(ge=1, description="of both stacks")
    mixtures: int = Field(ge=1, description="logistics in the mixture of a value")

    def load(self, folder: str) -> FittedPixelCnn:
        """See `ArtifactRecipe.load`."""
        return FittedPixelCnn.load(folder)
