"""Conversions between stored images, uint8 (H, W, 3), and batches, float32 (B, 3, H, W) in [0, 1]."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.errors import TensorError

ROUNDING = 1e-6
"""How far from the 8-bit grid a value may be by rounding: some units in the last place of float32 at 1."""


def to_tensor(images: Sequence[NDArray[np.uint8] | NDArray[np.float32]]) -> Tensor:
    """Stack B >= 1 images of one size, uint8 (H, W, 3), to float32 (B, 3, H, W) in [0, 1].

    Float32 images, in [0, 1] already, are kept bit for bit.

    Raises:
        TensorError: no images, sizes that differ, another shape or type, or floats outside [0, 1].
    """
    if not images:
        raise TensorError("no images to stack", expected="at least one")
    first, kind = images[0].shape, images[0].dtype if images[0].dtype == np.float32 else np.dtype(np.uint8)
    for index, image in enumerate(images):
        if image.shape != first or image.ndim != 3 or first[2] != 3 or image.dtype != kind:
            got = f"{image.shape} {image.dtype}"
            raise TensorError(
                "images of one batch are RGB of one size", item=index, expected=f"{first} {kind}", got=got
            )
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    if stacked.dtype == torch.uint8:
        return from_uint8(stacked)
    if not bool(((stacked >= 0) & (stacked <= 1)).all()):
        raise TensorError("float images are not in range", expected="[0, 1]", got="other values")
    return stacked


def from_uint8(images: Tensor) -> Tensor:
    """Stored pixels in a tensor, uint8 (B, 3, H, W), as float32 in [0, 1] on the same device.

    Raises:
        TensorError: another shape or type.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        got = f"{tuple(images.shape)} {images.dtype}"
        raise TensorError("not a batch of stored RGB images", expected="(B, 3, H, W) torch.uint8", got=got)
    return _from_levels(images.float())


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Round (B, 3, H, W) float images to stored pixels, uint8 (B, H, W, 3): clipped to [0, 1], half to even.

    Raises:
        TensorError: another shape, or a value that is not finite.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise TensorError("not a batch of RGB images", expected="(B, 3, H, W)", got=tuple(images.shape))
    # NaN anywhere makes both of them NaN; a mask of all pixels takes six times as long.
    if images.numel() and not torch.isfinite(torch.stack(torch.aminmax(images))).all():
        raise TensorError("pixels that are not finite cannot be stored", expected="[0, 1]", got="NaN or infinity")
    stored: NDArray[np.uint8] = _levels(images.detach()).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return stored


def quantize(images: Tensor) -> Tensor:
    """q8: float images of any shape, rounded as by storing them with 8 bits and reading them back.

    Equals `to_tensor(to_uint8(images))` bit for bit. NaN stays NaN. The gradient is zero almost everywhere.
    """
    return _from_levels(_levels(images))


def snapped(images: Tensor, ids: Sequence[str]) -> Tensor:
    """Images (B, 3, H, W) that are on the 8-bit grid but for rounding, on it: k / 255 to the bit.

    u8 * (1 / 255), as by torchvision's `ToDtype(scale=True)`, is off by up to 6e-8.

    Raises:
        TensorError: a value is farther than that from the grid, or outside [0, 1]; it names the image that is farthest.
    """
    grid = quantize(images)
    off = (images - grid).abs().flatten(1).amax(dim=1).nan_to_num(torch.inf)
    if bool((off > ROUNDING).any()):
        worst = int(off.argmax())
        raise TensorError(
            "the image is not on the 8-bit grid",
            item=ids[worst],
            expected=f"whole numbers 0 to 255 over 255, up to {ROUNDING:g}",
            got=f"{float(off[worst]):.2g} off",
        )
    return grid


def _levels(images: Tensor) -> Tensor:
    # In place: fresh pages for every step take longer than the arithmetic.
    return images.clamp(0, 1).mul_(255).round_()


def _from_levels(levels: Tensor) -> Tensor:
    # The divisor lives on the device: by a host scalar, CUDA multiplies with 1/255 instead, which rounds differently.
    return levels / torch.full((), 255, dtype=levels.dtype, device=levels.device)
