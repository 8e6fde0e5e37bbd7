"""A random square of an image at the size of the whole. Source: Guo et al. 2018, section 3 (image cropping and rescaling).

Guo et al. crop and rescale before any other transformation, so that what is behind sees the rescaled crop; their
resizing passes through 8 bits, this one does not, so that its gradient is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from stl_ray.config import Gradient
from stl_ray.defenses.base import Linearised, Pullback, Transformation
from stl_ray.defenses.by_autograd import by_autograd
from stl_ray.defenses.purified import Purified
from stl_ray.seeding import seed_of


@dataclass(frozen=True)
class Crop(Transformation):
    """A crop at a place that the image's seed draws, rescaled bilinearly to the image's size, and transformed.

    Args:
        share: side of the crop over the side of the image, in (0, 1].
        behind: transformation of the rescaled crop.
    """

    share: float
    behind: Transformation
    name = "crop"
    randomised = True

    @property
    def gradients(self) -> tuple[Gradient, ...]:  # type: ignore[override]  # of what is behind: a crop itself is linear
        """See `Defense.gradients`."""
        return self.behind.gradients

    @property
    def iterative(self) -> bool:  # type: ignore[override]  # of what is behind
        """See `Defense.iterative`."""
        return self.behind.iterative

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "share": self.share, "behind": self.behind.identity()}

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`."""
        return self.behind.purify(self._rescaled(images, seeds), seeds=_seeds_behind(seeds), exclude=exclude)

    def linearised(self, gradient: Gradient) -> Linearised:
        """See `Transformation.linearised`; crop and rescaling are differentiated exactly in every mode."""
        behind = self.behind.linearised(gradient)

        def linearise(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Pullback]:
            rescaled, rescaled_pullback = by_autograd(lambda x: self._rescaled(x, seeds), images)
            output, pullback = behind(rescaled, _seeds_behind(seeds))
            return output, lambda v: rescaled_pullback(pullback(v))

        return linearise

    def certified(self) -> "Crop":
        """See `Defense.certified`."""
        return replace(self, behind=self.behind.certified())

    def _rescaled(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """The crops (B, 3, H, W); each differs from its image at least in the place that it is of."""
        height, width = images.shape[-2:]
        tall, wide = (max(1, round(self.share * side)) for side in (height, width))
        crops = []
        for image, seed in zip(images, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            top, left = (
                int(torch.randint(room + 1, (), generator=generator)) for room in (height - tall, width - wide)
            )
            crops.append(image[:, top : top + tall, left : left + wide])
        # In float64 the weights of a pixel sum to one closely enough that white stays white: a clamp would cut the gradient
        # of white and black off.
        rescaled = interpolate(torch.stack(crops).double(), (height, width), mode="bilinear")
        return rescaled.to(images.dtype)


def _seeds_behind(seeds: Sequence[int]) -> list[int]:
    """The seeds of what is behind crops with these seeds: two uses never share a stream."""
    return [seed_of(seed, "", "behind the crop") for seed in seeds]
