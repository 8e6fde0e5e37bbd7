"""Rows of image shards to pixels and back, and the plan of a stage that reads a finished dataset."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.errors import IncompleteRunError, InputError
from stl_ray.images import class_names_of, decode, encode_png, to_tensor
from stl_ray.stages.computing import in_threads
from stl_ray.store import Dataset, PlannedShard

# Stored images passed ingest's limit; nothing larger can be in a shard.
STORED_PIXELS = 2**31

# Images in memory as floats at once. No image's result depends on it.
BATCH = 64


Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""A stored image, (H, W, 3): 8-bit levels, or what was stored exactly, in [0, 1]."""


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


def by_size(images: Sequence[Pixels], device: str) -> Iterator[tuple[list[int], Tensor]]:
    """Batches of at most 64 images of one size: positions, and the images as float32 (B, 3, H, W) in [0, 1]."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for position, image in enumerate(images):
        groups.setdefault((image.shape, image.dtype), []).append(position)
    for positions in groups.values():
        for start in range(0, len(positions), BATCH):
            batch = positions[start : start + BATCH]
            yield batch, to_tensor([images[position] for position in batch]).to(device)


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
    names = class_names_of(dataset.read(dataset.parts[0]).schema)
    if not names:
        raise IncompleteRunError("the dataset names no classes", item=dataset.storage.root)
    return names


def load_images(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """All images of a dataset in memory: uint8 (N, 3, H, W), labels (N,), ids.

    Raises:
        InputError: if the images differ in size.
    """
    images: torch.Tensor | None = None
    labels: list[int] = []
    ids: list[str] = []
    for table in dataset.tables():
        for name, pixels in zip(table.column("id").to_pylist(), pixels_of(table), strict=True):
            if images is None:
                images = torch.empty((dataset.rows, 3, *pixels.shape[:2]), dtype=torch.uint8)
            if pixels.shape[:2] != images.shape[2:]:
                raise InputError(
                    "images of one size are needed here; set ingest.size", item=name, expected=tuple(images.shape[2:]),
                    got=pixels.shape[:2],
                )  # fmt: skip
            images[len(ids)] = torch.from_numpy(pixels).permute(2, 0, 1)
            ids.append(name)
        labels += table.column("label").to_pylist()
    if images is None:
        raise InputError("no images", item=dataset.storage.root)
    return images, torch.tensor(labels, dtype=torch.int64), ids


def rows_at(dataset: Dataset, places: Sequence[int]) -> list[dict[str, Any]]:
    """The rows at ascending places of a dataset; only the parts that hold them are read."""
    rows, start, wanted = [], 0, list(places)
    for part in dataset.parts:
        here = [place - start for place in wanted if start <= place < start + part["rows"]]
        if here:
            rows += dataset.read(part).take(here).to_pylist()
        start += part["rows"]
    return rows
