"""Random resizing and padding. Source: Xie et al. 2018, Mitigating Adversarial Effects Through Randomization, section 3.

The paper resizes 299 pixels to a random side in [299, 331) and pads to 331 at random, which an Inception takes. Here an image
keeps its size, as every job and record supposes: the same canvas at 299/331 of the scale, so that the image covers the
same share of it, [299/331, 1), at the same random places, and is made smaller by a tenth at most (ARES' port of the
defense does the same). The padding is the zero of Inception's [-1, 1], grey; the authors' code for the NIPS 2017 challenge
resizes by the nearest neighbour, which of a smaller image would leave out rows: here it is bilinear, as in Athalye et al. 2018.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate, pad

from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.options import DefenseOptions


class ResizePadOptions(DefenseOptions):
    """The options of resize_pad."""

    smallest: float = Field(
        299 / 331, gt=0, lt=1, description="smallest side of the resized image over the padded one's"
    )
    fill: float = Field(0.5, ge=0, le=1, description="value of the padding; 0.5 is the zero of Inception's [-1, 1]")


@dataclass(frozen=True)
class ResizePad(TransformationByAutograd):
    """Makes every image a little smaller and puts it at a random place of its old frame.

    Args:
        smallest: smallest side over the frame's; the largest is a pixel below the frame's.
        fill: value of what is left of the frame.
    """

    smallest: float
    fill: float
    name = "resize_pad"
    randomised = True

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "smallest": self.smallest, "fill": self.fill}

    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `TransformationByAutograd.transformed`."""
        frames = [self._placed(image[None], seed) for image, seed in zip(images, seeds, strict=True)]
        return torch.cat(frames)

    def _placed(self, image: Tensor, seed: int) -> Tensor:
        """One image (1, C, H, W), by the draws of its seed: the shorter side, then the place from above and from the left."""
        generator = torch.Generator().manual_seed(seed)
        height, width = image.shape[-2:]
        side = min(height, width)
        drawn = _drawn(min(round(self.smallest * side), side - 1), side - 1, generator)
        rows, columns = (max(round(length * drawn / side), 1) for length in (height, width))
        top, left = _drawn(0, height - rows, generator), _drawn(0, width - columns, generator)
        # In float64, so that means of values in [0, 1] are in [0, 1] to the last bit of float32.
        small = interpolate(image.double(), (rows, columns), mode="bilinear", align_corners=False).to(image.dtype)
        return pad(small, (left, width - columns - left, top, height - rows - top), value=self.fill)


def _drawn(lowest: int, highest: int, generator: torch.Generator) -> int:
    """A whole number from lowest to highest, each as likely."""
    return int(torch.randint(lowest, highest + 1, (), generator=generator))
