"""Samples: the images that dictionaries are learned from and judged by, copied out of the training shards.

One pass over the shards for all dictionaries, on the shard runner; the workers that hold the images read this small
dataset only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from stl_ray.errors import StorageError
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.pipeline.inputs import dataset_of, training_images
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Dataset, PlannedShard
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.shards import sha256
from stl_ray.training import DictionarySample


def run(fit: SpaceFit, samples: Sequence[DictionarySample], latents: Dataset, ids: Sequence[str]) -> Dataset:
    """Copy the images of all samples, each once; the finished run.

    Args:
        fit: the space, with root and Ray resources.
        samples: of all dictionaries, indices into `ids`.
        latents: the run of latents, whose parts are those of the training shards.
        ids: of all latents, in order.

    Raises:
        IncompleteRunError: if shards failed.
        RunIdentityError: if there are samples of other images.
    """
    dataset = training_images(fit.experiment)
    chosen = sorted({index for sample in samples for index in (*sample.learn, *sample.holdout)})
    plan: list[PlannedShard] = []
    end, position = 0, 0
    for part, encoded in zip(dataset.parts, latents.parts, strict=True):
        end, first = end + encoded["rows"], position
        while position < len(chosen) and chosen[position] < end:
            position += 1
        part_ids = [ids[index] for index in chosen[first:position]]
        if part_ids:
            source = {"part": part, "ids": part_ids}
            plan.append(PlannedShard(number=len(plan), source=source, rows=len(part_ids), digest=part["sha256"]))
    identity = {"input": dataset.digest, "ids": sha256(canonical_json([ids[index] for index in chosen]))}
    planned = PlannedRun(fit.samples, plan, identity)
    run_shards(ShardJob(fit.label("samples"), [planned], partial(SampleTask, dataset), gpu=False), fit.experiment)
    return dataset_of(fit.experiment.root, fit.samples)


@dataclass
class SampleTask(TableTask):
    """Copies the chosen rows of a shard."""

    dataset: Dataset

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The rows of the shard that were planned."""
        table = self.dataset.read(shard.source["part"])
        wanted = set(shard.source["ids"])
        rows = table.filter(pa.array([identifier in wanted for identifier in table.column("id").to_pylist()]))
        if rows.num_rows != len(wanted):
            raise StorageError(
                "images that have latents are not in their shard", item=shard.source["part"]["file"],
                expected=len(wanted), got=rows.num_rows,
            )  # fmt: skip
        return rows

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """The rows as they are stored."""
        return ShardOutput(table)
