"""Images and labels as a caller has them, as stored images: uint8 (H, W, 3), what `ingest` would have stored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.errors import TensorError
from stl_ray.images.tensors import ROUNDING


@dataclass(frozen=True)
class Images:
    """N >= 1 labelled images.

    Attributes:
        pixels: uint8 (H, W, 3) each, of any sizes.
        labels: (N,) int64.
        ids: N different ones.
        device: that they were on.
        remarks: on what was done to them, a sentence each.
    """

    pixels: list[NDArray[np.uint8]]
    labels: NDArray[np.int64]
    ids: list[str]
    device: str
    remarks: tuple[str, ...]


def stored_images(images: object, labels: object, ids: Iterable[str] | None = None) -> Images:
    """Labelled images as `stl_ray.evaluate` takes them, rounded to 8 bits where they are not on the 8-bit grid.

    Raises:
        TensorError: images, labels or ids have another shape, type or range; it names the image.
    """
    each = _each(images)
    names = [str(position) for position in range(len(each))] if ids is None else list(ids)
    if not each:
        raise TensorError("no images", item="images", expected="at least one")
    if len(names) != len(each) or len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
        got = f"{len(names)}, of which {len(set(names))} differ"
        raise TensorError("ids do not fit", item="ids", expected=f"{len(each)} different texts", got=got)
    stored = [_stored(image, name) for image, name in zip(each, names, strict=True)]
    rounded = sum(was_rounded for _, was_rounded in stored)
    remark = (
        f"{rounded} of {len(stored)} images were not on the 8-bit grid; they are rounded to it, as a stored image is"
    )
    return Images(
        [pixels for pixels, _ in stored],
        _labels(labels, len(each)),
        names,
        str(images.device) if isinstance(images, Tensor) else "cpu",
        (remark,) if rounded else (),
    )


def _each(images: object) -> Sequence[object]:
    if isinstance(images, Tensor | np.ndarray):
        if images.ndim != 4:
            shape = tuple(images.shape)
            raise TensorError(
                "not a batch of images", item="images", expected="(N, 3, H, W) or (N, H, W, 3)", got=shape
            )
        return list(images)
    if isinstance(images, str | bytes) or not isinstance(images, Iterable):
        expected = "a tensor, an array, or a list of images"
        raise TensorError("not images", item="images", expected=expected, got=type(images).__name__)
    return list(images)


def _stored(image: object, name: str) -> tuple[NDArray[np.uint8], bool]:
    """The pixels of an image, and whether they were rounded to get there."""
    array = _array(image)
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]) or 0 in array.shape:
        raise TensorError("not an RGB image", item=name, expected="(3, H, W) or (H, W, 3)", got=array.shape)
    if array.shape[0] == 3:
        array = array.transpose(1, 2, 0)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array), False
    if array.dtype.kind != "f":
        expected = "uint8, or floats in [0, 1]"
        raise TensorError("pixels of another type", item=name, expected=expected, got=array.dtype)
    floats = np.ascontiguousarray(array, dtype=np.float32)
    low, high = float(floats.min()), float(floats.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # NaN is neither
        raise TensorError("pixels out of range", item=name, expected="floats in [0, 1]", got=f"{low:g} to {high:g}")
    levels = np.rint(floats.clip(0, 1) * np.float32(255))
    off = np.abs(floats - levels / np.float32(255)).max() > ROUNDING
    return levels.astype(np.uint8), bool(off)


def _array(image: object) -> NDArray[Any]:
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        return (image.float() if image.is_floating_point() else image).numpy()
    return np.asarray(image)


def _labels(labels: object, count: int) -> NDArray[np.int64]:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        expected, got = f"{count} whole numbers, one for each image", f"{array.shape} {array.dtype}"
        raise TensorError("labels do not fit", item="labels", expected=expected, got=got)
    return array.astype(np.int64)
