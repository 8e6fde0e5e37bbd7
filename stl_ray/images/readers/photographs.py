"""The bundled dataset: 32 x 32 crops of ten photographs that scikit-image's wheel contains. Nothing is downloaded.

A photograph is a class. Its columns are cut into bands, in turn for training and for testing, and a crop lies wholly
inside one band, so that no pixel serves both. A crop is a square window at a random position, its side a random share of
the photograph's shorter side, reduced with antialiasing. Windows without contrast (sky, the black around the retina)
are drawn again, because nothing in them tells a class.

Everything about crop `train/00042` follows from its id alone: the dataset is the same in every experiment, whatever
the run's seed, the limit and the size of the shards.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_ray.errors import ImageError, InputError
from stl_ray.images.codec import decode, resize
from stl_ray.images.readers.base import RawImage, SourceShard, Split, ranges, shard_digest
from stl_ray.images.readers.left_out import LeftOut
from stl_ray.images.readers.places import Places
from stl_ray.seeding import seed_of

SIDE = 32
"""Pixels: height and width of a crop."""

_PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "motorcycle": "motorcycle_left.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
_IMAGES: dict[Split, int] = {"train": 1600, "test": 500}
# Shares of a photograph's width. The narrowest band is wider than the widest window in every photograph.
_BANDS: dict[Split, tuple[tuple[float, float], ...]] = {
    "train": ((0.0, 0.3), (0.5, 0.8)),
    "test": ((0.3, 0.5), (0.8, 1.0)),
}
_WINDOW = (1 / 9, 1 / 6)  # of the shorter side: 33 to 50 pixels in the smallest photograph, so crops are never enlarged
_CONTRAST = 5.0  # grey levels: least standard deviation of a window in its liveliest channel
_MAX_PIXELS = 10_000_000


@dataclass
class PhotographsReader:
    """Crops of the bundled photographs; classes take turns, so that every limit is balanced.

    Args:
        split: which bands to crop from.
        limit: crops to take, all (1600 train, 500 test) when None.
    """

    split: Split
    limit: int | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the photographs."""
        return list(_PHOTOGRAPHS)

    @property
    def left_out(self) -> LeftOut:
        """Nothing."""
        return LeftOut()

    @property
    def places(self) -> Places:
        """None: each split has bands of its own."""
        return Places()

    def plan(self, shard_size: int) -> Iterator[SourceShard]:
        """Ranges of crop numbers. The digest covers the photographs' decoded pixels and the recipe.

        Raises:
            InputError: a photograph is not in the installed scikit-image.
        """
        total = min(_IMAGES[self.split], self.limit or _IMAGES[self.split])
        recipe = hashlib.sha256(repr((self.split, SIDE, _BANDS, _WINDOW, _CONTRAST)).encode())
        for photograph in self._photographs:
            recipe.update(repr(photograph.shape).encode() + photograph.tobytes())
        for start, stop in ranges(total, shard_size):
            source = {"start": start, "stop": stop}
            yield SourceShard(source, stop - start, shard_digest(recipe.hexdigest(), source))

    def read(self, source: dict[str, Any]) -> Iterator[RawImage]:
        """Yield the crops with numbers from `start` to before `stop`."""
        for index in range(source["start"], source["stop"]):
            label = index % len(_PHOTOGRAPHS)
            name = f"{self.split}/{index:05d}"
            yield RawImage(name, self._crop(name, self._photographs[label]), label)

    @cached_property
    def _photographs(self) -> list[NDArray[np.uint8]]:
        return [_load(filename) for filename in _PHOTOGRAPHS.values()]

    def _crop(self, name: str, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        attempt = 0
        while True:
            window = _window(f"{name}/{attempt}", photograph, _BANDS[self.split])
            if window.std(axis=(0, 1)).max() >= _CONTRAST:
                return resize(window, SIDE)
            attempt += 1


def _load(filename: str) -> NDArray[np.uint8]:
    try:
        return decode(files("skimage").joinpath("data", filename).read_bytes(), max_pixels=_MAX_PIXELS)
    except (OSError, ImageError) as error:
        raise InputError("this photograph is not in the installed scikit-image", item=filename, got=error) from error


def _window(draw: str, photograph: NDArray[np.uint8], bands: tuple[tuple[float, float], ...]) -> NDArray[np.uint8]:
    """A random square window inside one of the bands; everything follows from the name of the draw."""
    height, width = photograph.shape[:2]
    smallest, largest = (share * min(height, width) for share in _WINDOW)
    side = round(smallest + (largest - smallest) * _uniform(draw, "side"))
    start, stop = (round(share * width) for share in bands[int(_uniform(draw, "band") * len(bands))])
    top = int(_uniform(draw, "top") * (height - side + 1))
    left = start + int(_uniform(draw, "left") * (stop - start - side + 1))
    return photograph[top : top + side, left : left + side]


def _uniform(draw: str, purpose: str) -> float:
    """A number in [0, 1) from a hash, which no library's release can change."""
    return (seed_of(0, draw, f"photographs {purpose}") >> 10) / 2**53
