"""Patches of training images at random places.

A patch's key, which comes of the run's seed, the image's id, the purpose and the patch's number, says where it lies and
whether it is kept: those of the smallest keys are, in their order. So what is kept depends on ids, images and seed, and not
on how images are spread over shards, nor on the order in which they are read; and an image that no small key chooses need
not be looked at.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stl_ray.errors import TrainingError
from stl_ray.seeding import seed_of

Drawn = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Keys (n,) int64, 0 or more, and patches (n, 3 side side) uint8, each (3, side, side) in C order."""


KEYS = 2**63
"""Keys are below it."""


def patches_per_image(patches: int, images: int) -> int:
    """How many patches are drawn of every image so that there are `patches` of them."""
    return -(-patches // images)


def key_limit(patches: int, images: int) -> int:
    """A limit that the smallest `patches` keys of so many images are below, so that no other has to be looked at.

    Twice as many are below it, and some more for chance: those that are kept are the same as without it, unless about half
    of the images are set aside.
    """
    drawn = images * patches_per_image(patches, images)
    enough = 2 * patches + 10 * math.isqrt(patches) + 50
    return min(KEYS, KEYS * enough // drawn)


def keys_of(identifier: str, count: int, *, seed: int, purpose: str, limit: int = KEYS) -> NDArray[np.int64]:
    """The keys of an image's `count` patches that are below the limit.

    Args:
        identifier: the image's id.
        count: of patches.
        seed: the run seed.
        purpose: what the patches are for.
        limit: see `key_limit`.
    """
    keys = [seed_of(seed, identifier, f"{purpose} {number}") for number in range(count)]
    return np.array([key for key in keys if key < limit], np.int64)


def draw_patches(
    image: NDArray[np.uint8],
    identifier: str,
    count: int,
    *,
    side: int,
    seed: int,
    purpose: str,
    saliency: NDArray[np.float64] | None = None,
) -> Drawn:
    """All of an image's patches: `keys_of` and `cut_patches`."""
    keys = keys_of(identifier, count, seed=seed, purpose=purpose)
    return keys, cut_patches(image, keys, side=side, saliency=saliency)


def cut_patches(
    image: NDArray[np.uint8], keys: NDArray[np.int64], *, side: int, saliency: NDArray[np.float64] | None = None
) -> NDArray[np.uint8]:
    """Patches of one image where their keys say, with replacement.

    Args:
        image: (H, W, 3) uint8, each side at least `side`.
        keys: (n,), of the patches.
        side: of a patch, in pixels.
        saliency: (H, W), 0 or more and finite: a place is as probable as the sum over its patch; None, or 0 everywhere: all
            places are equally probable.

    Returns:
        (n, 3 side side), as in `Drawn`.
    """
    windows = np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(0, 1))
    rows, columns = windows.shape[:2]
    if saliency is None or not saliency.any():
        places = keys % (rows * columns)
    else:
        weights = np.lib.stride_tricks.sliding_window_view(saliency, (side, side)).sum((2, 3), dtype=np.float64)
        reached = weights.cumsum()
        # The lower half of a key: the upper one says whether the patch is kept.
        shares = (keys % 2**32 + 0.5) / 2**32
        places = np.searchsorted(reached, shares * reached[-1], side="right")
    patches: NDArray[np.uint8] = windows[places // columns, places % columns].reshape(len(keys), -1)
    return patches


def smallest_keys(drawn: Iterable[Drawn], count: int) -> Drawn:
    """The patches of the `count` smallest keys, in their order, of all that were drawn (fewer, if fewer were).

    Raises:
        TrainingError: no patch was drawn.
    """
    kept: list[Drawn] = []
    waiting = 0
    for keys, patches in drawn:
        kept.append((keys, patches))
        waiting += len(keys)
        if waiting > 2 * count:
            kept = [_smallest(kept, count)]
            waiting = count
    if not waiting:
        raise TrainingError("no patch was drawn", expected="training images to draw patches from")
    return _smallest(kept, count)


def _smallest(drawn: list[Drawn], count: int) -> Drawn:
    keys, patches = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    order = np.argsort(keys, kind="stable")[:count]
    return keys[order], patches[order]
