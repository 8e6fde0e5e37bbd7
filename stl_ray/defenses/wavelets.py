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
from stl_ray.defenses.base import Linearised, Transformation, require_gradient
from stl_ray.defenses.options import DefenseOptions
from stl_ray.defenses.pathwise import pathwise
from stl_ray.defenses.purified import Purified
from stl_ray.space import Gradient

# ITU-R BT.601 for RGB in [0, 1], as scikit-image's `rgb2ycbcr` has it.
_TO_YCBCR = torch.tensor(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], dtype=torch.float64
)
_OFFSET = (16.0, 128.0, 128.0)
_TO_RGB = torch.linalg.inv(_TO_YCBCR).tolist()

FLAT = 1e-6
"""Range of a channel, of 255, below which it is rounding (chroma of a grey image) and stays as it is."""


class WaveletOptions(DefenseOptions):
    """The options of wavelet."""

    sigma: float = Field(0.04, gt=0, description="standard deviation of the noise, where a channel's range is 1")


@dataclass(frozen=True)
class WaveletDenoising(Transformation):
    """Denoises every image.

    Args:
        sigma: as in the options.
    """

    sigma: float
    name = "wavelet"
    gradients = ("exact", "bpda")

    def identity(self) -> dict[str, Any]:
        """See `Defense.identity`."""
        return {"defense": self.name, "sigma": self.sigma}

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude: Sequence[str] | None = None) -> Purified:
        """See `Transformation.purify`."""
        with torch.no_grad():
            return Purified.without_solver(denoised(images, self.sigma))

    def linearised(self, gradient: Gradient) -> Linearised:
        """See `Transformation.linearised`."""
        require_gradient(self, gradient)
        through = pathwise(lambda images, seeds: denoised(images, self.sigma))
        return through if gradient == "exact" else super().linearised(gradient)


def denoised(images: Tensor, sigma: float) -> Tensor:
    """Denoise images (B, 3, H, W) in [0, 1], computed in float64, on a graph where they are.

    Args:
        images: of any size.
        sigma: of the noise, where the range of a channel of YCbCr in its image is 1.

    Returns:
        (B, 3, H, W) in [0, 1], in the images' type; the derivative is the true one wherever there is one: where the
        extremes of a channel are no ties, and no coefficient lies at its threshold.

    Raises:
        TensorError: the images have another shape or type, or are not finite.
    """
    check_images(images, channels=3, side=1)
    parts = images.split(_images_at_once(images))  # a CPU's cache holds some
    return torch.cat([_denoised(part.double(), sigma).to(images.dtype) for part in parts])


def _images_at_once(images: Tensor) -> int:
    return max(1, (2**14 if images.device.type == "cpu" else 2**22) // math.prod(images.shape[-2:]))


def _denoised(rgb: Tensor, sigma: float) -> Tensor:
    channels = torch.stack(
        [_mixed(rgb, row) + offset for row, offset in zip(_TO_YCBCR.tolist(), _OFFSET, strict=True)], dim=1
    )
    low = channels.amin((2, 3), keepdim=True)
    span = channels.amax((2, 3), keepdim=True) - low
    flat = span < FLAT
    span = span.masked_fill(flat, 1)
    scaled = shrunk((channels - low) / span, sigma).clamp(0, 1)
    channels = torch.where(flat, channels, scaled * span + low)
    centred = torch.stack([channels[:, row] - offset for row, offset in enumerate(_OFFSET)], dim=1)
    return torch.stack([_mixed(centred, row) for row in _TO_RGB], dim=1).clamp(0, 1)


def _mixed(channels: Tensor, weights: Sequence[float]) -> Tensor:
    """The (B, H, W) weighted sum of three channels; a matrix product's order of additions depends on the batch."""
    return channels[:, 0] * weights[0] + channels[:, 1] * weights[1] + channels[:, 2] * weights[2]


def shrunk(channels: Tensor, sigma: float) -> Tensor:
    """Soft shrinkage of the Haar details of (B, C, H, W), float64, each band of each channel by its own threshold.

    The coarsest three of floor(log2(min(H, W))) levels are left alone, where there are more than three.
    """
    levels = max(min(channels.shape[-2:]).bit_length() - 1 - 3, 1)
    averages, details = channels, []
    for _ in range(levels):
        shape = averages.shape[-2:]
        averages, bands = haar(averages)
        details.append((bands, shape))
    for bands, shape in reversed(details):
        threshold = bayes_threshold(bands, sigma)
        soft = bands.sign() * (bands.abs() - threshold).clamp(min=0)
        averages = inverse_haar(averages, soft, shape)
    return averages


def bayes_threshold(bands: Tensor, sigma: float) -> Tensor:
    """BayesShrink's threshold sigma^2 / sigma_x of bands (..., h, w), float64, as (..., 1, 1).

    sigma_x^2 = mean(band^2) - sigma^2 is the variance of what is not noise; where it is none, nothing passes.
    """
    variance = _sum(bands.square().flatten(-2)) / math.prod(bands.shape[-2:]) - sigma**2
    return (sigma**2 / variance.clamp(min=torch.finfo(bands.dtype).eps).sqrt())[..., None, None]


def haar(channels: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform of (..., H, W); an odd edge is repeated.

    Returns:
        Averages (..., h, w) with h = ceil(H / 2), w = ceil(W / 2), and details (3, ..., h, w).
    """
    height, width = channels.shape[-2:]
    rows, columns = (torch.arange(size + size % 2, device=channels.device).clamp(max=size - 1) for size in (height, width))
    even = channels[..., rows, :][..., columns] if height % 2 or width % 2 else channels
    return _butterfly(even[..., ::2, ::2], even[..., ::2, 1::2], even[..., 1::2, ::2], even[..., 1::2, 1::2])


def inverse_haar(averages: Tensor, details: Tensor, shape: tuple[int, int] | torch.Size) -> Tensor:
    """The (..., H, W) channels of this `shape` whose `haar` the averages and details are."""
    first, others = _butterfly(averages, *details)
    upper, lower = torch.stack([first, others[0]], dim=-1), torch.stack([others[1], others[2]], dim=-1)
    even = torch.stack([upper.flatten(-2), lower.flatten(-2)], dim=-2)  # (..., h, 2, 2 w)
    return even.flatten(-3, -2)[..., : shape[0], : shape[1]]


def _butterfly(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """The orthonormal transform of four pixels of a square, which is its own inverse."""
    above, below, left, right = a + b, c + d, a - b, c - d
    return (above + below) / 2, torch.stack([left + right, above - below, left - right]) / 2


def _sum(values: Tensor) -> Tensor:
    """The sum over the last dimension, in one order whatever the shape of the others."""
    while (count := values.shape[-1]) > 1:
        if count % 2:
            values = F.pad(values, (0, 1))
        half = values.shape[-1] // 2
        values = values[..., :half] + values[..., half:]
    return values[..., 0]
