"""The projection T before its output is brought back to [0, 1]: low band plus the coded high band.

T(x) = low + D z,   z = argmin 1/2 ||(x - low) - D z||^2 + lambda ||z||_1
"""

from typing import NamedTuple

import torch
from torch import Tensor

from stl_ray.csc.bands import split_bands
from stl_ray.csc.cbpdn import check_images, solve_cbpdn
from stl_ray.csc.codes import Accuracy
from stl_ray.csc.dictionary import Dictionary
from stl_ray.csc.operator import operator_of
from stl_ray.csc.tiles import tile_size
from stl_ray.tiling import in_tiles


class Reconstruction(NamedTuple):
    """T of a batch through one dictionary.

    Attributes:
        images: (B, C, H, W), about [0, 1] but not clipped.
        support: (B, K, H, W) bool, where the codes are not zero.
        status: (B,) int64, values of SolveStatus.
        iterations: (B,) int64.
    """

    images: Tensor
    support: Tensor
    status: Tensor
    iterations: Tensor


@torch.no_grad()
def reconstruct(images: Tensor, dictionary: Dictionary, lmbda: float, accuracy: str | Accuracy) -> Reconstruction:
    """T(images) for images (B, C, H, W) in [0, 1], float32 or float64, each on its own.

    Takes the memory of (B, K, H, W) maps, so pass few large images at a time.

    Raises:
        TensorError: as `solve_cbpdn`.
    """
    check_images(images, dictionary.channels)
    operator = operator_of(dictionary, images.shape[-2], images.shape[-1], images.dtype, images.device)

    def reconstruct_tile(tile: Tensor) -> tuple[Tensor, ...]:
        low, high = split_bands(tile)
        codes = solve_cbpdn(high, dictionary, lmbda, accuracy=accuracy)
        return low + operator.forward(codes.maps), codes.maps != 0, codes.status, codes.iterations

    size = tile_size(images.shape[-2], images.shape[-1], images.device)
    return Reconstruction(*in_tiles(reconstruct_tile, images, size=size))
