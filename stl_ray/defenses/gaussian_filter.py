"""Gaussian smoothing. Source: Xu et al. 2018, Feature Squeezing, section III-B, who name it among the local smoothings and
give no width; the default is ours.

It is `scipy.ndimage.gaussian_filter` of each channel, cut off at four standard deviations, with mirrored borders.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from torch import Tensor

from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.windows import averaged

_CUT = 4
"""Standard deviations, as SciPy's default."""


class GaussianFilterOptions(DefenseOptions):
    """The options of gaussian_filter."""

    sigma: float = Field(1.0, ge=0.2, le=16, description="standard deviation in pixels; an image must have 4 of them")


@dataclass(frozen=True)
class GaussianFilter(TransformationByAutograd):
    """A Gaussian filter of each channel.

    Args:
        sigma: its standard deviation in pixels.
    """

    sigma: float
    name = "gaussian_filter"

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "sigma": self.sigma}

    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `TransformationByAutograd.transformed`."""
        radius = int(_CUT * self.sigma + 0.5)
        heights = [math.exp(-0.5 * (offset / self.sigma) ** 2) for offset in range(-radius, radius + 1)]
        return averaged(images, [height / math.fsum(heights) for height in heights])
