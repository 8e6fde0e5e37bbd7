"""The median of every pixel's neighbourhood. Source: Xu et al. 2018, Feature Squeezing, section III-B.

The authors' code is `scipy.ndimage.median_filter` of each channel, with mirrored borders; of an even number of values it takes
the upper of the two in the middle, which is a value of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field
from torch import Tensor

from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.windows import in_parts, windows


class MedianFilterOptions(DefenseOptions):
    """The options of median_filter."""

    size: int = Field(
        2, ge=2, le=15, description="side of the window in pixels; the authors have 2 for CIFAR-10 and ImageNet"
    )


@dataclass(frozen=True)
class MedianFilter(TransformationByAutograd):
    """A median filter of each channel.

    Args:
        size: side of the window.
    """

    size: int
    name = "median_filter"

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "size": self.size}

    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `TransformationByAutograd.transformed`; the derivative is that of the value taken, of equal ones that of one."""
        return in_parts(self._median, images)

    def _median(self, images: Tensor) -> Tensor:
        every, upper = windows(images, self.size), self.size**2 // 2
        if images.is_cuda:  # where `kthvalue` takes any of equal values, and so passes a gradient on as chance has it
            return every.sort(dim=-1, stable=True).values[..., upper]
        return every.kthvalue(upper + 1, dim=-1).values
