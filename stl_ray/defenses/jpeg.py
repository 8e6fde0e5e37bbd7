"""JPEG compression. Source: Dziugaite et al. 2016; quality 75 as in Guo et al. 2018.

Its Jacobian is zero almost everywhere: attacks take that of a stand-in (`jpeg_stand_in`), or the identity.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from pydantic import Field
from torch import Tensor

from stl_ray.config import Gradient
from stl_ray.defenses.base import Linearised, Pullback, Transformation
from stl_ray.defenses.by_autograd import by_autograd
from stl_ray.defenses.jpeg_stand_in import transcoded
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.purified import Purified
from stl_ray.images import decode, to_tensor, to_uint8


class JpegOptions(DefenseOptions):
    """The options of jpeg."""

    quality: int = Field(75, ge=1, le=100, description="libjpeg's quality")


@dataclass(frozen=True)
class Jpeg(Transformation):
    """Encodes and decodes every image by libjpeg with 4:2:0 chroma subsampling.

    Args:
        quality: 1 to 100.
    """

    quality: int
    name = "jpeg"
    gradients = ("stand_in", "bpda")

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        codec = features.version("libjpeg_turbo") or features.version("jpg")
        return {"defense": self.name, "quality": self.quality, "libjpeg": codec}

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`."""
        decoded = [self._compress(image) for image in to_uint8(images)]
        return Purified.without_solver(to_tensor(decoded).to(images.device))

    def linearised(self, gradient: Gradient) -> Linearised:
        """See `Transformation.linearised`."""
        if gradient != "stand_in":
            return super().linearised(gradient)

        def linearise(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Pullback]:
            _, pullback = by_autograd(partial(transcoded, quality=self.quality), images)
            return self.purify(images, seeds=seeds).images, pullback

        return linearise

    def _compress(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=self.quality, subsampling="4:2:0")
        return decode(buffer.getvalue(), max_pixels=image.shape[0] * image.shape[1])
