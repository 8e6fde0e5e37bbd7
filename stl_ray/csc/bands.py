"""The split of an image into a smooth low band and the high band that the dictionary codes.

    low = argmin_l 1/2 ||l - x||^2 + weight/2 ||grad l||^2,    high = x - low

(Tikhonov), solved exactly in the frequency domain on the image extended by 16 pixels of symmetric padding. The same
filter as `sporco.signal.tikhonov_filter(x, 5, 16)`, which the authors' script uses.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from stl_ray.csc.fourier import irfft2, rfft2
from stl_ray.csc.tiles import tile_size
from stl_ray.tiling import in_tiles

WEIGHT = 5.0
"""Weight of the gradient term."""

PADDING = 16
"""Pixels of symmetric (edge-repeating) padding on every side."""

PIXELS_PER_PART = 2**14
"""Pixels of the images that are split together on a CPU."""


def split_bands(images: Tensor) -> tuple[Tensor, Tensor]:
    """(low, high) of images (B, C, H, W), each of that shape; low + high = images."""
    low = _by_parts(lambda part: _crop(_smooth(_pad(part))), images)
    return low, images - low


def low_band_adjoint(cotangent: Tensor) -> Tensor:
    """L^T of the linear map L: images -> low, for (B, C, H, W): crop^T, the filter (symmetric), pad^T.

    L itself is only nearly self-adjoint: reflection would make it so if the padding did not end.
    """
    return _by_parts(lambda part: _pad_adjoint(_smooth(_crop_adjoint(part))), cotangent)


def _by_parts(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    if images.device.type == "cpu":
        # Transforms on a CPU do not depend on the batch, so that no part need be filled up; small ones stay in caches.
        size = max(1, PIXELS_PER_PART // (images.shape[-2] * images.shape[-1]))
        parts = [function(part) for part in torch.split(images, size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    size = tile_size(images.shape[-2], images.shape[-1], images.device)
    return in_tiles(lambda tile: (function(tile),), images, size=size)[0]


def _pad(images: Tensor) -> Tensor:
    rows, columns = (_reflected(size, images.device) for size in images.shape[-2:])
    return images.index_select(-2, rows).index_select(-1, columns)


def _pad_adjoint(padded: Tensor) -> Tensor:
    height, width = (side - 2 * PADDING for side in padded.shape[-2:])
    rows, columns = (_reflected(size, padded.device) for size in (height, width))
    folded = padded.new_zeros((*padded.shape[:-1], width)).index_add_(-1, columns, padded)
    return folded.new_zeros((*folded.shape[:-2], height, width)).index_add_(-2, rows, folded)


def _crop(images: Tensor) -> Tensor:
    return images[..., PADDING:-PADDING, PADDING:-PADDING]


def _crop_adjoint(images: Tensor) -> Tensor:
    return torch.nn.functional.pad(images, (PADDING,) * 4)


def _smooth(padded: Tensor) -> Tensor:
    height, width = padded.shape[-2:]
    response = _response(height, width, padded.dtype, padded.device)
    return irfft2(rfft2(padded) * response, (height, width))


@lru_cache(maxsize=64)
def _reflected(size: int, device: torch.device) -> Tensor:
    """The source index of every pixel of the padded axis; images smaller than the padding reflect repeatedly."""
    position = torch.arange(-PADDING, size + PADDING, device=device) % (2 * size)
    return torch.minimum(position, 2 * size - 1 - position)


@lru_cache(maxsize=64)
def _response(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """1 / (1 + weight (|g_rows|^2 + |g_columns|^2)), with |g|^2 = 2 - 2 cos(omega) of the difference [-1, 1]."""
    rows = 2 - 2 * torch.cos(2 * torch.pi * torch.arange(height, dtype=torch.float64, device=device) / height)
    columns = 2 - 2 * torch.cos(2 * torch.pi * torch.arange(width // 2 + 1, dtype=torch.float64, device=device) / width)
    return (1 / (1 + WEIGHT * (rows[:, None] + columns))).to(dtype)
