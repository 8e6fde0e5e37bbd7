"""Rows of image shards to pixels and back, and the plan of a job that reads a finished dataset."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.errors import IncompleteRunError
from stl_ray.evaluation.batches import Pixels
from stl_ray.images import class_names_of, decode, encode_png
from stl_ray.runtime.concurrency import in_threads
from stl_ray.store import Dataset, PlannedShard

# Stored images passed ingest's limit; nothing larger can be in a shard.
STORED_PIXELS = 2**31


def pixels_of(table: pa.Table) -> list[NDArray[np.uint8]]:
    """The stored images of a shard, uint8 (H, W, 3) each, in order."""
    return in_threads(_decode, [image["bytes"] for image in table.column("image").to_pylist()])


def exact_pixels_of(table: pa.Table) -> list[Pixels]:
    """The images of an adversarial shard, in order: float32 (H, W, 3) where they were stored so, else as `pixels_of`."""
    rounded = pixels_of(table)
    if "pixels" not in table.column_names:
        return list(rounded)
    exact = table.column("pixels").to_pylist()
    return [
        levels if data is None else np.frombuffer(data, "<f4").reshape(levels.shape)
        for levels, data in zip(rounded, exact, strict=True)
    ]


def exact_bytes(images: Tensor) -> list[bytes]:
    """The `pixels` column of (B, 3, H, W) float32 images."""
    return [image.tobytes() for image in images.detach().cpu().permute(0, 2, 3, 1).contiguous().numpy().astype("<f4")]


def _decode(data: bytes) -> NDArray[np.uint8]:
    return decode(data, max_pixels=STORED_PIXELS)


def stored(images: NDArray[np.uint8], paths: Sequence[str | None]) -> list[dict[str, bytes | str | None]]:
    """The image column of (B, H, W, 3) uint8 images: PNG bytes, and where each came from."""
    encoded = in_threads(encode_png, images)
    return [{"bytes": data, "path": path} for data, path in zip(encoded, paths, strict=True)]


def plan_parts(dataset: Dataset) -> list[PlannedShard]:
    """One shard for each part of a finished dataset."""
    return [
        PlannedShard(number=number, source=part, rows=part["rows"], digest=part["sha256"])
        for number, part in enumerate(dataset.parts)
    ]


def class_names(dataset: Dataset) -> list[str]:
    """The class names in a dataset's schema.

    Raises:
        IncompleteRunError: if it names none.
    """
    names = class_names_of(dataset.schema)
    if not names:
        raise IncompleteRunError("the dataset names no classes", item=dataset.storage.root)
    return names


def rows_at(dataset: Dataset, positions: Sequence[int]) -> list[dict[str, Any]]:
    """The rows at ascending positions of a dataset; only the parts that hold them are read."""
    rows, start, wanted = [], 0, list(positions)
    for part in dataset.parts:
        here = [position - start for position in wanted if start <= position < start + part["rows"]]
        if here:
            rows += dataset.read(part).take(here).to_pylist()
        start += part["rows"]
    return rows


def rows_by_id(dataset: Dataset, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """The rows of these ids, by id; an id that the dataset does not have is left out."""
    wanted = set(ids)
    positions = [position for position, identifier in enumerate(dataset.column("id")) if identifier in wanted]
    return {row["id"]: row for row in rows_at(dataset, positions)}
