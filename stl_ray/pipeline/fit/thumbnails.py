"""Thumbnails: every training image as the autoencoder sees it, 8 bits, side x side."""

from dataclasses import dataclass
from functools import partial
from math import isqrt

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.errors import ImageError, InputError
from stl_ray.evaluation.batches import BATCH, by_size
from stl_ray.images import decode
from stl_ray.pipeline.batches import STORED_PIXELS, plan_parts
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.pipeline.inputs import dataset_of, training_images
from stl_ray.runtime.concurrency import COMPUTE, in_threads
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.space import thumbnails
from stl_ray.store import Dataset, PlannedShard, QuarantinedRow


def run(fit: SpaceFit) -> Dataset:
    """Reduce every training image; the finished run.

    Raises:
        IncompleteRunError: if the training split was not ingested, or shards failed.
        RunIdentityError: if there are thumbnails of other images or another side.
        QuarantineLimitError: if too many images cannot be decoded.
    """
    run_shards(shard_job(fit), fit.experiment)
    return dataset_of(fit.experiment.root, fit.thumbnails)


def shard_job(fit: SpaceFit) -> ShardJob:
    """The job that makes the thumbnails.

    Raises:
        IncompleteRunError: if the training split was not ingested.
    """
    dataset = training_images(fit.experiment)
    identity = {"input": dataset.digest, "side": fit.space.autoencoder.side}
    planned = PlannedRun(fit.thumbnails, plan_parts(dataset), identity)
    return ShardJob(fit.label("thumbnails"), [planned], partial(ThumbnailTask, fit), gpu=False)


@dataclass
class ThumbnailTask(TableTask):
    """Reduces the images of a shard; one that cannot be decoded is set aside."""

    fit: SpaceFit

    def __post_init__(self) -> None:
        self._dataset = training_images(self.fit.experiment)

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The images of the shard."""
        return self._dataset.read(shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Thumbnails, in the order of the images."""
        side = self.fit.space.autoencoder.side
        ids: list[str] = []
        small: list[bytes] = []
        quarantine: list[QuarantinedRow] = []
        for start in range(0, table.num_rows, BATCH):
            with COMPUTE.held():
                batch_ids, images = _decoded(table.slice(start, BATCH), quarantine)
                ids += batch_ids
                small += _reduced(images, side)
        return ShardOutput(thumbnail_table(ids, small, side), quarantine)


def _decoded(table: pa.Table, quarantine: list[QuarantinedRow]) -> tuple[list[str], list[NDArray[np.uint8]]]:
    ids, images = [], []
    rows = table.select(["id", "image"]).to_pylist()
    for row, image in zip(rows, in_threads(_decode, [row["image"]["bytes"] for row in rows]), strict=True):
        if isinstance(image, ImageError):
            quarantine.append(QuarantinedRow(row["id"], image.reason, str(image), row["image"]["bytes"]))
        else:
            ids.append(row["id"])
            images.append(image)
    return ids, images


def _decode(data: bytes) -> NDArray[np.uint8] | ImageError:
    try:
        return decode(data, max_pixels=STORED_PIXELS)
    except ImageError as error:
        return error


def _reduced(images: list[NDArray[np.uint8]], side: int) -> list[bytes]:
    reduced = [b""] * len(images)
    for positions, batch in by_size(images, "cpu"):
        for position, small in zip(positions, thumbnails(batch, side).numpy(), strict=True):
            reduced[position] = small.tobytes()
    return reduced


def thumbnail_table(ids: list[str], small: list[bytes], side: int) -> pa.Table:
    """Rows of thumbnails: `id`, and `thumbnail`, the bytes of uint8 (3, side, side) in C order."""
    schema = pa.schema([("id", pa.string()), ("thumbnail", pa.binary(3 * side * side))])
    return pa.table([ids, small], schema=schema)


def thumbnails_of(table: pa.Table) -> Tensor:
    """The thumbnails of a `thumbnail_table`: uint8 (B, 3, side, side)."""
    column = table.column("thumbnail")
    side = isqrt(column.type.byte_width // 3)
    pixels = np.frombuffer(bytearray().join(column.to_pylist()), np.uint8)
    return torch.from_numpy(pixels).view(len(column), 3, side, side)


def load_thumbnails(dataset: Dataset) -> tuple[Tensor, list[str]]:
    """All thumbnails of a run in memory, uint8 (N, 3, side, side), and their ids.

    Raises:
        InputError: if there are none.
    """
    ids: list[str] = []
    whole: Tensor | None = None
    for table in dataset.tables():
        small = thumbnails_of(table)
        if whole is None:
            whole = small.new_empty((dataset.rows, *small.shape[1:]))
        whole[len(ids) : len(ids) + len(small)] = small
        ids += table.column("id").to_pylist()
    if whole is None:
        raise InputError("no thumbnails", item=dataset.storage.root)
    return whole, ids
