"""Wavelet denoising of colour images: soft shrinkage of Haar coefficients by BayesShrink, in YCbCr.

Sources: Chang, Yu & Vetterli 2000 (BayesShrink); Prakash et al. 2018 (arXiv:1801.08926, section 5), whose figures were made
with scikit-image's `denoise_wavelet(sigma=0.04, convert2ycbcr=True)` of February 2018. That scales each channel of YCbCr to
[0, 1] by its own minimum and maximum and takes sigma as it is given on that scale. scikit-image of today divides sigma by
the channel's range first, or converts it to YCbCr (`rescale_sigma`): the first denoises nothing, the second less.

Everything here is elementwise but minima, maxima and sums; a sum adds halves to each other. So an image has the same bits in
every batch and on every processor, and autograd differentiates all of it. PyWavelets is the oracle of the tests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from stl_ray.csc import check_images
from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.options import DefenseOptions
from stl_ray.images.clipping import clipped

# ITU-R BT.601 for RGB in [0, 1], as scikit-image's `rgb2ycbcr` has it, without its offsets, which scaling takes off again.
_TO_YCBCR = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
_TO_RGB = torch.tensor(_TO_YCBCR, dtype=torch.float64).inverse().tolist()

NO_SIGNAL = 2.0**-52
"""The least variance of a signal: with it a threshold is larger than any coefficient."""


class WaveletOptions(DefenseOptions):
    """The options of wavelet."""

    sigma: float = Field(0.04, gt=0, description="standard deviation of the noise, where a channel's range is 1")


@dataclass(frozen=True)
class WaveletDenoising(TransformationByAutograd):
    """Denoises every image.

    Args:
        sigma: as in the options.
    """

    sigma: float
    name = "wavelet"

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "sigma": self.sigma}

    def transformed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `TransformationByAutograd.transformed`."""
        return denoised(images, self.sigma)


def denoised(images: Tensor, sigma: float) -> Tensor:
    """Denoise images (B, 3, H, W) in [0, 1] of any size, in their own type; on torch's graph, where they are.

    Args:
        images: float32 or float64.
        sigma: of the noise, where the range of a channel of YCbCr in its image is 1.

    Returns:
        (B, 3, H, W) in [0, 1]. Its derivative is the true one wherever there is one: where a channel has its extremes at
        one pixel each, and no coefficient lies at its threshold.

    Raises:
        TensorError: the images have another shape or type, or are not finite.
    """
    check_images(images, channels=3, side=1)
    at_once = max(1, (2**14 if images.device.type == "cpu" else 2**22) // math.prod(images.shape[-2:]))
    return torch.cat([_denoised(part, sigma) for part in torch.split(images, at_once)])  # what a CPU's cache can hold


def _denoised(rgb: Tensor, sigma: float) -> Tensor:
    channels = _mixed(rgb, _TO_YCBCR)
    low = channels.amin((2, 3), keepdim=True)
    span = channels.amax((2, 3), keepdim=True) - low
    span = span.masked_fill(span == 0, 1)  # of a flat channel, which stays as it is
    scaled = clipped(shrunk((channels - low) / span, sigma))
    return clipped(_mixed(scaled * span + low, _TO_RGB))


def _mixed(channels: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
    """Weighted sums of three channels; the order of additions in a matrix product would depend on the batch."""
    first, second, third = channels.unbind(1)
    return torch.stack([first * row[0] + second * row[1] + third * row[2] for row in weights], dim=1)


def shrunk(channels: Tensor, sigma: float) -> Tensor:
    """Soft shrinkage of the Haar details of (B, C, H, W), each band of each channel by its own threshold.

    Of floor(log2(min(H, W))) levels the coarsest three are left alone, where there are more than three.
    """
    levels = max(min(channels.shape[-2:]).bit_length() - 1 - 3, 1)
    averages, details = channels, []
    for _ in range(levels):
        shape = averages.shape[-2:]
        averages, bands = haar(averages)
        details.append((bands, shape))
    for bands, shape in reversed(details):
        threshold = bayes_threshold(bands, sigma)
        averages = inverse_haar(averages, bands - bands.clamp(-threshold, threshold), shape)
    return averages


def bayes_threshold(bands: Tensor, sigma: float) -> Tensor:
    """BayesShrink's threshold sigma^2 / sigma_x of bands (..., h, w), as (..., 1, 1).

    sigma_x^2 = mean(band^2) - sigma^2 is the variance of what is not noise; where it is none, nothing passes.
    """
    variance = _sum(bands.square().flatten(-2)) / math.prod(bands.shape[-2:]) - sigma**2
    return (sigma**2 / variance.clamp(min=NO_SIGNAL).sqrt())[..., None, None]


def haar(channels: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform of (B, C, H, W); an odd edge is repeated.

    Returns:
        Averages (B, C, h, w) with h = ceil(H / 2), w = ceil(W / 2), and details (B, C, 3, h, w).
    """
    height, width = channels.shape[-2:]
    even = F.pad(channels, (0, width % 2, 0, height % 2), mode="replicate") if height % 2 or width % 2 else channels
    squares = torch.unflatten(F.pixel_unshuffle(even, 2), 1, (-1, 4))
    average, *details = _butterfly(*squares.unbind(2))
    return average, torch.stack(details, dim=2)


def inverse_haar(averages: Tensor, details: Tensor, shape: Sequence[int]) -> Tensor:
    """The channels (B, C, H, W) whose `haar` the averages and details are, of this `shape` (H, W)."""
    squares = torch.stack(_butterfly(averages, *details.unbind(2)), dim=2)
    return F.pixel_shuffle(squares.flatten(1, 2), 2)[..., : shape[0], : shape[1]]


def _butterfly(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The orthonormal transform of four pixels of a square, which is its own inverse."""
    above, below, left, right = (a + b) / 2, (c + d) / 2, (a - b) / 2, (c - d) / 2
    return above + below, left + right, above - below, left - right


def _sum(values: Tensor) -> Tensor:
    """The sum over the last dimension, in one order whatever the shape of the others."""
    while (count := values.shape[-1]) > 1:
        if count % 2:
            values = F.pad(values, (0, 1))
        half = values.shape[-1] // 2
        values = values[..., :half] + values[..., half:]
    return values[..., 0]
