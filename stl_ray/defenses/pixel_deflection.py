"""Pixel deflection: pixels away from what the classifier looks at are replaced by near ones, then the image is denoised.

Source: Prakash et al. 2018 (arXiv:1801.08926): deflection (`deflection`), guided by the robust class activation map
(`robust_cam`), then wavelet denoising (`wavelets`); what the tables of Sun et al. 2019 call PD-Ens. Defaults are those of the
published code and figures.

Gradient: for the draws of a seed, the true one by autograd. Which pixels are drawn depends on the map, thus on the image,
but in jumps, which no gradient sees. The published attacks (Athalye & Carlini 2018) are on images without a map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.deflection import deflected
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.robust_cam import CLASSES, robust_cam
from stl_ray.defenses.wavelets import denoised
from stl_ray.errors import ConfigError
from stl_ray.models import Classifier, classifier_identity


class PixelDeflectionOptions(DefenseOptions):
    """The options of pixel_deflection."""

    deflections: int = Field(
        200,
        ge=1,
        description="values replaced, each of one channel; what one pass over three channels adds counts whole",
    )
    window: int = Field(10, ge=1, description="largest distance of the value that comes instead, in rows and columns")
    map: Literal["rcam", "none"] = Field(
        "rcam", description="rcam: where a classifier sees the likeliest classes, fewer values are replaced; none: the same everywhere"
    )  # fmt: skip
    classifier: str | None = Field(None, description="name of the classifier that makes the map; absent: the only one")
    sigma: float = Field(
        0.04, ge=0, description="standard deviation of the noise that is removed afterwards, where a channel's range is 1; 0: none"
    )  # fmt: skip

    @property
    def requires(self) -> frozenset[str]:
        """The classifier that makes the map, where there is one."""
        return frozenset({"classifier"}) if self.map == "rcam" else frozenset()


@dataclass(frozen=True)
class PixelDeflection(TransformationByAutograd):
    """Deflects pixels of every image by its seed, and denoises it.

    Args:
        options: of the deflection and the denoising.
        classifier: in eval mode, that makes the map; None where there is none.

    Raises:
        ConfigError: the classifier is of a kind whose features are not at hand.
    """

    options: PixelDeflectionOptions
    classifier: Classifier | None = None
    name = "pixel_deflection"
    randomised = True

    def __post_init__(self) -> None:
        if (self.options.map == "rcam") != (self.classifier is not None):
            expected = "a classifier where the map is rcam, and none where there is no map"
            raise ConfigError("the map and its classifier do not go together", item=self.name, expected=expected)
        if self.classifier is not None and not isinstance(self.classifier, Classifier):
            raise ConfigError(
                "a class activation map needs a network's layers", item=self.name,
                expected="a stl_ray.models.Classifier", got=type(self.classifier).__name__,
            )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        guide = None if self.classifier is None else {"classes": CLASSES, **classifier_identity(self.classifier)}
        return {"defense": self.name, **self.options.model_dump(exclude={"classifier"}), "map": guide}

    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `TransformationByAutograd.transformed`.

        Raises:
            TensorError: the images are no float RGB images of at least 2 x 2.
            ConfigError: there is no map of such a network, or of so small an image.
        """
        maps = None if self.classifier is None else robust_cam(self.classifier, images)
        moved = deflected(images, seeds, self.options.deflections, self.options.window, maps)
        return moved if self.options.sigma == 0 else denoised(moved, self.options.sigma)
