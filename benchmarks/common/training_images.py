"""Clean images to learn from, of the training splits.

`data` is a folder as in `benchmarks.common.images`, with

    cifar10/train-*.parquet, imagenet10/train-*.parquet    images of 32 pixels come from the first, others from the last

beside the test splits. Pictures of one's own and photographs know no splits: all that is drawn from them is different.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from benchmarks.common.images import load_images, square

_SEED = 1


def training_images(size: int, count: int, data: Path | None) -> tuple[Tensor, str]:
    """(images (N, 3, size, size) in [0, 1], where they come from in words): always the same order, N = count.

    Raises:
        SystemExit: there are not so many, with what was looked for.
    """
    if data is None or not _files(size, data):
        # Every other one of these is clean.
        images = load_images(size, 2 * count, data)
        return images.pixels[::2].clone(), images.source
    pictures = _pictures(size, data)
    source = "CIFAR-10 train" if size == 32 else "ImageNet train, ten classes"
    if len(pictures) < count:
        raise SystemExit(f"{count} images of {size} pixels are needed, {source} has {len(pictures)}: ask for fewer")
    rows = np.random.default_rng(_SEED).permutation(len(pictures))[:count]
    return torch.stack([square(pictures[int(row)]["bytes"].as_py(), size) for row in rows]), source


def available(size: int, data: Path | None) -> int | None:
    """How many images the training split has; None where the data has no splits."""
    return None if data is None or not _files(size, data) else len(_pictures(size, data))


def _files(size: int, data: Path) -> list[Path]:
    return sorted(data.glob("cifar10/train-*.parquet" if size == 32 else "imagenet10/train-*.parquet"))


def _pictures(size: int, data: Path) -> pa.ChunkedArray:
    return pa.concat_tables(pq.read_table(file, columns=["image"]) for file in _files(size, data))["image"]
