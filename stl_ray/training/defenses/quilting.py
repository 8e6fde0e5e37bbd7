"""The library of image quilting: patches of training images at random places.

Source: Guo et al. 2018, whose code takes 1,000,000 patches, as many of every image, of the first 20,000 training images;
here they come from all of them. A patch's key, which comes of the run's seed, the image's id and the patch's number, says
where it lies and whether it is kept: the library holds the patches of the smallest keys, in their order. So it depends on
ids, images and seed, and not on how images are spread over shards, nor on the order in which they are read.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stl_ray.defenses.quilting_seams import SIDE
from stl_ray.errors import TrainingError
from stl_ray.seeding import seed_of

MINIMUM_SIDE = SIDE
"""Of an image that patches can be drawn from."""


def patches_per_image(patches: int, images: int) -> int:
    """How many patches are drawn of every image so that there are `patches` of them."""
    return -(-patches // images)


def draw_patches(
    image: NDArray[np.uint8], identifier: str, count: int, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Patches of one image, with replacement.

    Args:
        image: (H, W, 3) uint8, at least 5 x 5.
        identifier: the image's id.
        count: of patches.
        seed: the run seed.

    Returns:
        (count,) int64 keys, 0 or more, and (count, 75) uint8 patches, each (3, 5, 5) in C order.
    """
    keys = np.array([seed_of(seed, identifier, f"quilting patch {number}") for number in range(count)], np.int64)
    rows, columns = (side - SIDE + 1 for side in image.shape[:2])
    windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE), axis=(0, 1))
    return keys, windows[keys % rows, keys // rows % columns].reshape(count, -1)


def assemble_library(drawn: Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]], patches: int) -> NDArray[np.uint8]:
    """The patches of the smallest keys, in their order, of all that were drawn.

    Args:
        drawn: keys (n,) and patches (n, 75) of some images at a time.
        patches: of the library, at most.

    Returns:
        (N, 75) uint8.

    Raises:
        TrainingError: no patch was drawn.
    """
    keys, values = np.zeros(0, np.int64), np.zeros((0, 3 * SIDE * SIDE), np.uint8)
    for more_keys, more in drawn:
        keys, values = np.concatenate([keys, more_keys]), np.concatenate([values, more])
        if len(keys) > 2 * patches:
            keys, values = _smallest(keys, values, patches)
    if not len(keys):
        raise TrainingError("no patch was drawn", expected="training images to draw patches from")
    return _smallest(keys, values, patches)[1]


def _smallest(
    keys: NDArray[np.int64], values: NDArray[np.uint8], count: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    order = np.argsort(keys, kind="stable")[:count]
    return keys[order], values[order]
