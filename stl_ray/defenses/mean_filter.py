"""The mean of every pixel's neighbourhood. Source: Li and Li 2017, Adversarial Examples Detection in Deep Networks with
Convolutional Filter Statistics, section 5, who recover images by a small average filter; Xu et al. 2018 name it too.

It is `scipy.ndimage.uniform_filter` of each channel, with mirrored borders.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from torch import Tensor

from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.windows import averaged


class MeanFilterOptions(DefenseOptions):
    """The options of mean_filter."""

    size: int = Field(3, ge=2, le=15, description="side of the window in pixels; Li and Li have 3")


@dataclass(frozen=True)
class MeanFilter(TransformationByAutograd):
    """A mean filter of each channel.

    Args:
        size: side of the window.
    """

    size: int
    name = "mean_filter"

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "size": self.size}

    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `TransformationByAutograd.transformed`."""
        return averaged(images, [1 / self.size] * self.size)
