"""The perturbations of every attack set before and behind every transformation, on some images: runs of `evaluate`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from stl_ray.config import Experiment
from stl_ray.defenses import Transformation
from stl_ray.evaluation import (
    PERTURBATIONS_SCHEMA,
    UNDEFENDED,
    perturbation_scores,
    perturbations,
)
from stl_ray.evaluation.batches import by_size, in_order
from stl_ray.images import to_tensor
from stl_ray.pipeline.attack.sets import folder_of, sets_of
from stl_ray.pipeline.batches import exact_pixels_of, pixels_of
from stl_ray.pipeline.defended import Block
from stl_ray.pipeline.evaluate.adaptive.verdicts import SHARD
from stl_ray.pipeline.evaluate.cells import Cell, cells_of_blocks, clean_images
from stl_ray.pipeline.evaluate.subset import plan_subset, rows_in, rows_of
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.concurrency import COMPUTE
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Layout, PlannedShard, require_planned


def plan_perturbations(experiment: Experiment) -> ShardJob | None:
    """A run for every transformation and attack set of a block; None where there is nothing to measure.

    Raises:
        IncompleteRunError: if a job before this one is not done.
    """
    count, clean = experiment.evaluate.perturbations, clean_images(experiment)
    cells = cells_of_blocks(experiment, clean, "cpu", _cells_of) if count else {}
    if not cells:
        return None
    shards = plan_subset(clean, count, SHARD[device_of(experiment.ray)])
    runs = [PlannedRun(folder, shards, cell.identity(clean)) for folder, cell in cells.items()]
    identities = {run.folder: run.identity for run in runs}
    return ShardJob("measure perturbations", runs, partial(PerturbationsTask, experiment, identities))


def stored_perturbations(experiment: Experiment, block: Block) -> list[dict[str, Any]]:
    """The part of a block's scores that speaks of perturbations; empty where none were measured."""
    if not experiment.evaluate.perturbations:
        return []
    return perturbation_scores(
        {
            (cell.defense, cell.attack): pa.concat_tables(dataset_of(experiment.root, folder).tables())
            for folder, cell in _cells_of(experiment, block).items()
        }
    )


def _cells_of(experiment: Experiment, block: Block) -> dict[str, Cell]:
    layout = Layout(experiment.root)
    return {
        layout.perturbations(block.name, name, item.name): Cell(
            block, name, item.name, dataset_of(experiment.root, folder_of(item))
        )
        for name, defended in block.defended.items()
        if name != UNDEFENDED and isinstance(defended.defense, Transformation)
        for item in sets_of(experiment, block.name)
    }


@dataclass
class PerturbationsTask(TableTask):
    """Measures the perturbations of the images of a shard.

    Args:
        experiment: as the driver has it.
        identities: of the runs; the inputs that are loaded here must have the same.
    """

    experiment: Experiment
    identities: dict[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        self._device = device_of(self.experiment.ray)
        self._clean = clean_images(self.experiment)
        self._cells = cells_of_blocks(self.experiment, self._clean, self._device, _cells_of)
        for run, wanted in self.identities.items():
            require_planned(wanted, self._cells[run].identity(self._clean), run)

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The clean images of the shard."""
        return rows_of(self._clean, shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """The perturbations of the set, image by image."""
        cell, ids = self._cells[run], table.column("id").to_pylist()
        rows: dict[int, dict[str, Any]] = {position: {"id": ids[position]} for position in range(len(ids))}
        attacked = rows_in(cell.images, shard.source)
        pixels = dict(zip(attacked.column("id").to_pylist(), exact_pixels_of(attacked), strict=True))
        model, undefended = (cell.block.defended[name].victim("none") for name in (cell.defense, UNDEFENDED))
        there = [position for position, identifier in enumerate(ids) if identifier in pixels]
        originals = pixels_of(table)
        for places, clean in by_size([originals[position] for position in there], self._device):
            positions = [there[place] for place in places]
            batch_ids = [ids[position] for position in positions]
            images = to_tensor([pixels[name] for name in batch_ids]).to(clean)
            with COMPUTE.held():
                measured = perturbations(model, undefended, images, clean, batch_ids)
            rows |= dict(zip(positions, measured, strict=True))
        return ShardOutput(in_order(rows, PERTURBATIONS_SCHEMA))
