"""Images of a split as they are stored, with their ids and labels.

`data` is a folder as in `benchmarks.common.images` and `benchmarks.common.training_images`, with the Parquet files

    cifar10/test-*.parquet, imagenet10/train-*.parquet, imagenet10/val-*.parquet

Nothing is resized here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.images import decode

_SEED = 0

_MOST_PIXELS = 50_000_000


@dataclass(frozen=True)
class Stored:
    """N images.

    Attributes:
        levels: (H, W, 3) uint8 RGB each, of any size.
        ids: theirs.
        labels: (N,) int64.
    """

    levels: list[NDArray[np.uint8]]
    ids: list[str]
    labels: Tensor


def stored_images(split: str, count: int, data: Path | None) -> Stored:
    """`count` random images of a split such as "cifar10/test", always the same ones; of fewer, the first ones.

    Raises:
        SystemExit: there are none, or not so many, with what was looked for.
    """
    files = [] if data is None else sorted(data.glob(f"{split}-*.parquet"))
    if not files:
        raise SystemExit(f"{split}-*.parquet is needed, there is none: pass --data FOLDER")
    table = pa.concat_tables(pq.read_table(file, columns=["id", "image", "label"]) for file in files)
    if len(table) < count:
        raise SystemExit(f"{count} images are needed, {split} has {len(table)}: ask for fewer")
    table = table.take(np.random.default_rng(_SEED).permutation(len(table))[:count])
    return Stored(
        [decode(image["bytes"], max_pixels=_MOST_PIXELS) for image in table["image"].to_pylist()],
        table["id"].to_pylist(),
        torch.tensor(table["label"].to_pylist()),
    )
