"""Images of any sizes as batches of images of one size, and what came of each image back in order."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.csc.projection import PIXELS_AT_ONCE
from stl_ray.images import from_uint8

BATCH = 64
"""Images that are computed together on a CPU, whose caches hold no more. No image's result depends on it."""

# Tiles of a batch on a GPU, of which the last, however full, takes as long as the others.
_TILES = 4

Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""A stored image, (H, W, 3): 8-bit levels, or what was stored exactly, in [0, 1]."""


def by_size(images: Sequence[Pixels], device: str) -> Iterator[tuple[list[int], Tensor]]:
    """Batches of images of one size: positions, and the images as float32 (B, 3, H, W) in [0, 1] on the device."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, image in enumerate(images):
        groups.setdefault((image.shape, image.dtype), []).append(position)
    for positions in groups.values():
        height, width, _ = images[positions[0]].shape
        size = batch_size(height, width, device)
        for start in range(0, len(positions), size):
            batch = positions[start : start + size]
            stacked = torch.from_numpy(np.stack([images[position] for position in batch])).permute(0, 3, 1, 2)
            # 8-bit levels travel as bytes, a quarter of float32.
            moved = stacked.contiguous().to(device)
            yield batch, from_uint8(moved) if moved.dtype == torch.uint8 else moved


def batch_size(height: int, width: int, device: str) -> int:
    """Images of a size that are computed together."""
    return BATCH if device == "cpu" else _TILES * max(1, PIXELS_AT_ONCE // (height * width))


def in_order(rows: Mapping[int, Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """The table of some images in order, from its rows by position; positions without a row are left out."""
    return pa.Table.from_pylist([rows[position] for position in sorted(rows)], schema=schema)
