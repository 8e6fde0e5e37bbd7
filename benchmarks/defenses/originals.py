"""What defenses come from, one image at a time, by the libraries that published code calls or by its own loop."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from benchmarks.defenses import d3, tvm
from benchmarks.defenses.pixel_deflection import by_scikit_image, one_by_one

Array = NDArray[np.float32]
"""An image (H, W, 3) in [0, 1]."""


@dataclass(frozen=True)
class Original:
    """A formulation to compare with.

    Attributes:
        by: the library, or what it is.
        prepare: from the defense and images (B, 3, H, W) makes what is to be timed, and says how many images it does.
    """

    by: str
    prepare: Callable[[Any, Tensor], tuple[Callable[[], object], float]]


def _each(function: Callable[[Any, Array], object]) -> Callable[[Any, Tensor], tuple[Callable[[], object], float]]:
    def prepare(defense: Any, images: Tensor) -> tuple[Callable[[], object], float]:
        arrays = list(images.permute(0, 2, 3, 1).contiguous().numpy())
        return lambda: [function(defense, array) for array in arrays], len(arrays)

    return prepare


def _jpeg(defense: Any, image: Array) -> object:
    stream = io.BytesIO()
    Image.fromarray((image * 255).round().astype(np.uint8)).save(stream, "jpeg", quality=defense.quality)
    return np.asarray(Image.open(stream)).astype(np.float32) / 255


def _tvm(defense: Any, images: Tensor) -> tuple[Callable[[], object], float]:
    arrays = list(images.permute(0, 2, 3, 1).contiguous().numpy())
    sweeps = tvm.sweeps_of(defense, images, range(len(images)))
    return lambda: tvm.by_scikit_image(arrays, eps=0, max_num_iter=sweeps), len(arrays)


ORIGINALS = {
    "jpeg": Original("Pillow", _each(_jpeg)),
    "bit_depth": Original("NumPy", _each(lambda defense, image: np.rint(image * 2**defense.bits) / 2**defense.bits)),
    "median_filter": Original(
        "SciPy", _each(lambda defense, image: ndimage.median_filter(image, size=(defense.size, defense.size, 1)))
    ),
    "mean_filter": Original(
        "SciPy", _each(lambda defense, image: ndimage.uniform_filter(image, size=(defense.size, defense.size, 1)))
    ),
    "gaussian_filter": Original(
        "SciPy", _each(lambda defense, image: ndimage.gaussian_filter(image, sigma=(defense.sigma, defense.sigma, 0)))
    ),
    "tvm": Original("scikit-image, as many sweeps", _tvm),
    "wavelet": Original("scikit-image and PyWavelets", _each(lambda defense, image: by_scikit_image(image))),
    "pixel_deflection": Original(
        "the published loop, scikit-image", _each(lambda defense, image: by_scikit_image(one_by_one(image)))
    ),
    "d3": Original("scikit-learn, of 20 patches", lambda defense, images: d3.by_scikit_learn(defense, images[:1], 20)),
}
"""By the defense's name; the others have none that runs here."""
