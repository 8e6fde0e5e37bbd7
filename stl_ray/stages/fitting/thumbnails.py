"""fit/thumbnails: every training image as the autoencoder sees it, 8 bits, side x side."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import isqrt

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.config import Experiment
from stl_ray.errors import ImageError, InputError
from stl_ray.images import decode
from stl_ray.space import thumbnails
from stl_ray.stages.inputs import dataset_of
from stl_ray.stages.records import BATCH, STORED_PIXELS, by_size, plan_parts
from stl_ray.stages.runner import PlannedRun, ShardOutput, run_shards
from stl_ray.stages.session import device_of
from stl_ray.store import Dataset, Layout, PlannedShard, QuarantinedRow


def run(experiment: Experiment) -> Dataset:
    """Reduce every training image; the finished run.

    Raises:
        IncompleteRunError: if the training split was not ingested, or shards failed.
        RunIdentityError: if there are thumbnails of other images or another side.
        QuarantineLimitError: if too many images cannot be decoded.
    """
    layout = Layout(experiment.root)
    dataset = dataset_of(experiment.root, layout.ingested("train"))
    identity = {"input": dataset.digest, "side": experiment.fit.autoencoder.side}
    planned = PlannedRun(Layout.thumbnails, plan_parts(dataset), identity)
    run_shards("fit thumbnails", [planned], partial(ThumbnailWork, experiment), experiment)
    return dataset_of(experiment.root, Layout.thumbnails)


@dataclass
class ThumbnailWork:
    """Reduces the images of a shard; one that cannot be decoded is set aside."""

    experiment: Experiment

    def __post_init__(self) -> None:
        self._dataset = dataset_of(self.experiment.root, Layout(self.experiment.root).ingested("train"))

    def __call__(self, run: str, shard: PlannedShard) -> ShardOutput:
        """One shard of images, in its order."""
        side, device = self.experiment.fit.autoencoder.side, device_of(self.experiment.ray)
        table = self._dataset.read(shard.source)
        ids: list[str] = []
        small: list[bytes] = []
        quarantine: list[QuarantinedRow] = []
        for start in range(0, table.num_rows, BATCH):
            images = []
            for name, image in _decoded(table.slice(start, BATCH), quarantine):
                ids.append(name)
                images.append(image)
            small += _reduced(images, side, device)
        return ShardOutput(thumbnail_table(ids, small, side), quarantine)


def _decoded(table: pa.Table, quarantine: list[QuarantinedRow]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for row in table.select(["id", "image"]).to_pylist():
        data = row["image"]["bytes"]
        try:
            image = decode(data, max_pixels=STORED_PIXELS)
        except ImageError as error:
            quarantine.append(QuarantinedRow(row["id"], error.reason, str(error), data))
        else:
            yield row["id"], image


def _reduced(images: list[NDArray[np.uint8]], side: int, device: str) -> list[bytes]:
    reduced = [b""] * len(images)
    for positions, batch in by_size(images, device):
        for position, small in zip(positions, thumbnails(batch, side).cpu().numpy(), strict=True):
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
