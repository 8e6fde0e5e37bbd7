"""The input of the sanity checks: the answers of every defense to the probes of `evaluation.sanity`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from stl_ray.attacks import budget_of
from stl_ray.config import Experiment, NamedAttack
from stl_ray.evaluation import UNDEFENDED
from stl_ray.evaluation.batches import Pixels, by_size, in_order
from stl_ray.evaluation.sanity import FINITE_DIFFERENCES, PROBES_SCHEMA, Stored, Subject, probe
from stl_ray.evaluation.tier_attacks import CHECKED_TOGETHER, subject_of
from stl_ray.images import to_tensor
from stl_ray.pipeline.attack.sets import folder_of, sets_of
from stl_ray.pipeline.batches import exact_pixels_of, pixels_of
from stl_ray.pipeline.evaluate.adaptive.context import AttackedTask, Context
from stl_ray.pipeline.evaluate.subset import plan_subset, rows_in
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.concurrency import COMPUTE
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob
from stl_ray.runtime.shard_task import ShardOutput
from stl_ray.store import Layout, PlannedShard


def plan_checks(experiment: Experiment) -> ShardJob | None:
    """The probes of every defense; None where no attack is configured."""
    if not experiment.evaluate.tiers.attacks:
        return None
    layout, runs = Layout(experiment.root), []
    for context in Context.all_of(experiment, "cpu"):
        shards = probe_shards(context)
        runs += [
            PlannedRun(
                layout.probes(context.block.name, name), shards, probes_identity(context, name), context.detector(name)
            )
            for name in context.defended
            if name != UNDEFENDED
        ]
    identities = {run.folder: run.identity for run in runs}
    return ShardJob("check the attacks", runs, partial(ChecksTask, experiment, identities))


def probe_shards(context: Context) -> list[PlannedShard]:
    """The images that every defense is checked on."""
    return plan_subset(context.clean, context.checked, CHECKED_TOGETHER[device_of(context.experiment.ray)])


def probes_identity(context: Context, name: str) -> dict[str, Any]:
    """Whatever can change the probes of a defense; the attacks of the tiers are none of it."""
    root = context.experiment.root
    sets = {item.name: dataset_of(root, folder_of(item)).digest for item in _measured_sets(context)}
    return {**context.identity(name), "sets": sets, "level": context.experiment.evaluate.sanity}


def subject_in(context: Context, name: str) -> Subject:
    """One defense as the checks see it."""
    experiment = context.experiment
    return subject_of(context.defended[name], experiment.evaluate.tiers, experiment.seed, experiment.evaluate.sanity)


@dataclass
class ChecksTask(AttackedTask):
    """Probes of one defense on the images of a shard."""

    def _folder(self, classifier: str, defense: str) -> str:
        return self._layout.probes(classifier, defense)

    def _identity(self, context: Context, name: str) -> dict[str, Any]:
        return probes_identity(context, name)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """The answers of the pipeline to every probe."""
        context, name = self._runs[run]
        subject = subject_in(context, name)
        ids, labels = table.column("id").to_pylist(), context.block.labels(table.column("label").to_pylist())
        clean = pixels_of(table)
        sets = self._sets(context, shard, dict(zip(ids, clean, strict=True)))
        rows: dict[int, dict[str, Any]] = {}
        for positions, images in by_size(clean, self._device):
            batch_ids = [ids[position] for position in positions]
            truth = labels[positions]
            stored = {
                item.name: Stored(
                    to_tensor([pixels[position] for position in positions]).to(self._device),
                    budget_of(item),
                    item.store,
                )
                for item, pixels in sets
            }
            differences = [shard.number == 0 and position < FINITE_DIFFERENCES for position in positions]
            with COMPUTE.held():
                probes = probe(subject, images, truth, batch_ids, differences, stored)
            rows |= dict(zip(positions, probes, strict=True))
        return ShardOutput(in_order(rows, PROBES_SCHEMA))

    def _sets(
        self, context: Context, shard: PlannedShard, clean: Mapping[str, Pixels]
    ) -> list[tuple[NamedAttack, list[Pixels]]]:
        """The images in every stored set with a budget per image; the clean one stands for what a set lacks.

        Args:
            context: of the block.
            shard: what is checked.
            clean: by id, in the order of the shard.
        """
        sets = []
        for item in _measured_sets(context):
            attacked = dataset_of(self.experiment.root, folder_of(item))
            rows = rows_in(attacked, shard.source)
            pixels = dict(zip(rows.column("id").to_pylist(), exact_pixels_of(rows), strict=True))
            sets.append((item, [pixels.get(name, _like(item, image)) for name, image in clean.items()]))
        return sets


def _measured_sets(context: Context) -> list[NamedAttack]:
    """The stored sets whose budget is one of each image, so that it can be measured again."""
    sets = sets_of(context.experiment, context.block.name)
    return [item for item in sets if item.budget == "per_image"]


def _like(item: NamedAttack, image: Pixels) -> Pixels:
    """A clean image as a set stores its images."""
    return np.divide(image, 255, dtype=np.float32) if item.store == "f32" else image
