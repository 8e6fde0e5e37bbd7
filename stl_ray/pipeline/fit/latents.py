"""Latents: the autoencoder's latent of every thumbnail, float32."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from stl_ray.errors import ArtifactError, IncompleteRunError, InputError, QuarantineReason
from stl_ray.pipeline.batches import plan_parts
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.pipeline.fit.thumbnails import thumbnails_of
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.concurrency import COMPUTE
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.space import Autoencoder, encode
from stl_ray.space.pretrained import load_autoencoder
from stl_ray.store import Dataset, PlannedShard, QuarantinedRow, Storage


def run(fit: SpaceFit, thumbnails: Dataset, digest: str) -> Dataset:
    """Encode every thumbnail; the finished run.

    Args:
        fit: the space, with root and Ray resources.
        thumbnails: the run of thumbnails.
        digest: of the autoencoder artifact.

    Raises:
        IncompleteRunError: if there is no autoencoder, or shards failed.
        ArtifactError: if the autoencoder is unreadable or another one.
        RunIdentityError: if there are latents of other thumbnails or of another autoencoder.
        QuarantineLimitError: if too many latents are not finite.
    """
    _autoencoder(fit, digest)
    identity = {"thumbnails": thumbnails.digest, "autoencoder": digest}
    planned = PlannedRun(fit.latents, plan_parts(thumbnails), identity)
    job = ShardJob(fit.label("latents"), [planned], partial(LatentTask, fit, thumbnails, digest))
    run_shards(job, fit.experiment)
    return dataset_of(fit.experiment.root, fit.latents)


def _autoencoder(fit: SpaceFit, digest: str) -> Autoencoder:
    storage = Storage.open(fit.experiment.root).below(fit.autoencoder)
    if not storage.exists("autoencoder.json"):
        raise IncompleteRunError("there is no autoencoder yet; run `stl-ray fit` first", item=storage.root)
    autoencoder, _, stored = load_autoencoder(storage.root)
    if stored != digest:
        raise ArtifactError("another autoencoder than was asked for", item=storage.root, expected=digest, got=stored)
    return autoencoder


@dataclass
class LatentTask(TableTask):
    """Encodes the thumbnails of a shard; one whose latent is not finite is set aside."""

    fit: SpaceFit
    thumbnails: Dataset
    digest: str

    def __post_init__(self) -> None:
        self._device = device_of(self.fit.experiment.ray)
        self._autoencoder = _autoencoder(self.fit, self.digest).to(self._device)

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The thumbnails of the shard."""
        return self.thumbnails.read(shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Latents, in the order of the thumbnails."""
        ids = table.column("id").to_pylist()
        latents = torch.empty((0, self._autoencoder.latent))
        if ids:
            thumbnails = thumbnails_of(table).to(self._device)
            with COMPUTE.held():
                latents = encode(self._autoencoder, thumbnails).cpu()
        finite = latents.isfinite().all(dim=1)
        kept = [identifier for identifier, good in zip(ids, finite.tolist(), strict=True) if good]
        quarantine = [
            QuarantinedRow(identifier, QuarantineReason.LATENT_NOT_FINITE, "the autoencoder gave NaN or infinity")
            for identifier, good in zip(ids, finite.tolist(), strict=True)
            if not good
        ]
        return ShardOutput(_latent_table(kept, latents[finite].numpy()), quarantine)


def _latent_table(ids: list[str], latents: NDArray[np.float32]) -> pa.Table:
    """Rows of latents: `id`, and `latent`, a list of d float32."""
    values = pa.array(latents.ravel(), pa.float32())
    column = pa.FixedSizeListArray.from_arrays(values, latents.shape[1])
    return pa.table({"id": pa.array(ids, pa.string()), "latent": column})


def load_latents(dataset: Dataset) -> tuple[NDArray[np.float32], list[str]]:
    """All latents of a run in memory, float32 (N, d), and their ids.

    Raises:
        InputError: if there are none.
    """
    ids: list[str] = []
    whole: NDArray[np.float32] | None = None
    for table in dataset.tables():
        column = table.column("latent")
        if whole is None:
            whole = np.empty((dataset.rows, column.type.list_size), np.float32)
        values = column.combine_chunks().flatten().to_numpy()
        whole[len(ids) : len(ids) + len(column)] = values.reshape(len(column), whole.shape[1])
        ids += table.column("id").to_pylist()
    if whole is None:
        raise InputError("no latents", item=dataset.storage.root)
    return whole, ids


def latent_ids(dataset: Dataset) -> list[str]:
    """The ids of all latents of a run, in order."""
    return dataset.column("id")
