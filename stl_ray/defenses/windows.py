"""Windows that slide over an image, its borders mirrored: (d c b a | a b c d | d c b a), scipy.ndimage's "reflect".

A window of n pixels has n // 2 of them before its own: of an even one, the pixel is the lower right of the middle.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stl_ray.errors import TensorError

_VALUES = {"cpu": 2**17, "cuda": 2**24}
"""Values of images that are filtered at once, by device: on a CPU what one pass leaves is still in the cache for the next."""


def in_parts(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """function(images) for one that takes every image on its own, a few at a time."""
    at_once = max(1, _VALUES[images.device.type] // images[0].numel())
    return torch.cat([function(part) for part in torch.split(images, at_once)])


def windows(images: Tensor, size: int) -> Tensor:
    """The window of every pixel: (B, C, H, W) -> (B, C, H, W, size x size), row by row.

    Raises:
        TensorError: an image is smaller than half a window.
    """
    height, width = images.shape[-2:]
    padded = _mirrored(_mirrored(images, 2, size), 3, size)
    return torch.stack(
        [padded[..., top : top + height, left : left + width] for top in range(size) for left in range(size)], -1
    )


def averaged(images: Tensor, weights: Sequence[float]) -> Tensor:
    """Weighted means over windows, by the same weights along columns and rows; weights sum to one.

    In float64, so that the means of values in [0, 1] are in [0, 1] to the last bit of float32.

    Raises:
        TensorError: an image is smaller than half a window.
    """
    return in_parts(lambda part: _averaged(_averaged(part.double(), 2, weights), 3, weights).to(images.dtype), images)


def _averaged(images: Tensor, dim: int, weights: Sequence[float]) -> Tensor:
    padded, length = _mirrored(images, dim, len(weights)), images.shape[dim]
    means = weights[0] * padded.narrow(dim, 0, length)
    # One addition after the other: the order of a reduction's depends on the shape of the batch. Nor in one operation with
    # the product, which rounds once or twice by where in the batch a value is.
    for k, weight in enumerate(weights[1:], start=1):
        means = means + weight * padded.narrow(dim, k, length)
    return means


def _mirrored(images: Tensor, dim: int, size: int) -> Tensor:
    """Borders along one dimension, as a window of that size needs them."""
    before, length = size // 2, images.shape[dim]
    after = size - 1 - before
    if before > length:
        raise TensorError("the image is too small for the window", expected=f"at least {before} pixels", got=length)
    ahead, behind = images.narrow(dim, 0, before), images.narrow(dim, length - after, after)
    return torch.cat([ahead.flip(dim), images, behind.flip(dim)], dim)
