"""The projection T before its output is brought back to [0, 1]: low band plus the coded high band.

T(x) = low + D z,   z = argmin 1/2 ||(x - low) - D z||^2 + lambda ||z||_1
"""

from typing import NamedTuple

import torch
from torch import Tensor

from stl_ray.csc.bands import split_bands
from stl_ray.csc.cbpdn import check_images, solve_cbpdn
from stl_ray.csc.codes import Accuracy, Codes
from stl_ray.csc.dictionary import Dictionary

PIXELS_AT_ONCE = 2**20
"""Pixels of images that are solved together: enough to share among threads; 64 dense maps of them take 256 MB."""


class Reconstruction(NamedTuple):
    """T of a batch through one dictionary.

    Attributes:
        images: (B, C, H, W), about [0, 1] but not clipped.
        codes: of the high band, with sparse coefficients.
    """

    images: Tensor
    codes: Codes


@torch.no_grad()
def reconstruct(
    images: Tensor,
    dictionary: Dictionary,
    lmbda: float,
    *,
    method: str = "auto",
    accuracy: str | Accuracy = "default",
    start: Codes | None = None,
) -> Reconstruction:
    """T(images) for images (B, C, H, W) in [0, 1], float32 or float64, each on its own.

    Raises:
        TensorError: as `solve_cbpdn`, whose arguments these are.
    """
    check_images(images, dictionary.channels, dictionary.side)
    size = max(1, PIXELS_AT_ONCE // (images.shape[-2] * images.shape[-1]))
    projected, codes = [], []
    for begin in range(0, len(images), size):
        low, high = split_bands(images[begin : begin + size])
        first = start
        if start is not None and len(images) > size:
            first = start.select(torch.arange(len(images), device=images.device)[begin : begin + size])
        part = solve_cbpdn(high, dictionary, lmbda, method=method, accuracy=accuracy, start=first)
        projected.append(low + part.synthesis)
        codes.append(part.sparse())
    whole = projected[0] if len(projected) == 1 else torch.cat(projected)
    return Reconstruction(whole, Codes.cat(codes))
