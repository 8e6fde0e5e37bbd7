"""Windows that slide over an image, its borders mirrored: (d c b a | a b c d | d c b a), scipy.ndimage's "reflect".

A window of n pixels has n // 2 of them before its own: of an even one, the pixel is the lower right of the middle.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stl_ray.errors import TensorError


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
    means = images.double()
    for dim in (2, 3):
        padded, length = _mirrored(means, dim, len(weights)), means.shape[dim]
        # One addition after the other: the order of a reduction's depends on the shape of the batch.
        means = sum((w * padded.narrow(dim, k, length) for k, w in enumerate(weights)), torch.zeros_like(means))
    return means.to(images.dtype)


def _mirrored(images: Tensor, dim: int, size: int) -> Tensor:
    """Borders along one dimension, as a window of that size needs them."""
    before, length = size // 2, images.shape[dim]
    after = size - 1 - before
    if before > length:
        raise TensorError("the image is too small for the window", expected=f"at least {before} pixels", got=length)
    ahead, behind = images.narrow(dim, 0, before), images.narrow(dim, length - after, after)
    return torch.cat([ahead.flip(dim), images, behind.flip(dim)], dim)
