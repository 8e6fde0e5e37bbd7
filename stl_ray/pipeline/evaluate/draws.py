"""Randomised defenses drawn again on every set of images: runs of `evaluate`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from stl_ray.config import Experiment
from stl_ray.evaluation import DRAWS_SCHEMA, draw_scores, drawn
from stl_ray.evaluation.batches import by_size, in_order
from stl_ray.pipeline.attack.sets import folder_of, sets_of
from stl_ray.pipeline.batches import exact_pixels_of, plan_parts
from stl_ray.pipeline.defended import Block
from stl_ray.pipeline.evaluate.cells import Cell, cells_of_blocks, clean_images
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.concurrency import COMPUTE
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Layout, PlannedShard, require_planned
from stl_ray.store.layout import CLEAN


def plan_draws(experiment: Experiment) -> ShardJob | None:
    """A run for every randomised defense of a block on clean images and on every attack set; None where there is none.

    Raises:
        IncompleteRunError: if a job before this one is not done.
    """
    draws, clean = experiment.evaluate.draws, clean_images(experiment)
    cells = cells_of_blocks(experiment, clean, "cpu", _cells_of) if draws else {}
    if not cells:
        return None
    runs = [
        PlannedRun(folder, plan_parts(cell.images), {**cell.identity(clean), "draws": draws})
        for folder, cell in cells.items()
    ]
    identities = {run.folder: run.identity for run in runs}
    return ShardJob("draw the defenses again", runs, partial(DrawsTask, experiment, identities))


def stored_draws(experiment: Experiment, block: Block, scored: Collection[str]) -> list[dict[str, Any]]:
    """The part of a block's scores that speaks of draws; empty where none were made.

    Args:
        experiment: of the block.
        block: of a classifier.
        scored: ids of the images that count.
    """
    if not experiment.evaluate.draws:
        return []
    cells = _cells_of(experiment, block)
    tables = {
        (cell.defense, cell.attack): pa.concat_tables(dataset_of(experiment.root, folder).tables())
        for folder, cell in cells.items()
    }
    return draw_scores(tables, scored=scored, retrained=[name for name in block.defended if block.retrained(name)])


def _cells_of(experiment: Experiment, block: Block) -> dict[str, Cell]:
    layout = Layout(experiment.root)
    attacked = {item.name: dataset_of(experiment.root, folder_of(item)) for item in sets_of(experiment, block.name)}
    return {
        layout.draws(block.name, name, attack): Cell(block, name, attack, images)
        for name, defended in block.defended.items()
        if defended.defense.randomised
        for attack, images in {CLEAN: clean_images(experiment), **attacked}.items()
    }


@dataclass
class DrawsTask(TableTask):
    """Asks a randomised defense several times for the images of a shard.

    Args:
        experiment: as the driver has it.
        identities: of the runs; the inputs that are loaded here must have the same.
    """

    experiment: Experiment
    identities: dict[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        self._device, self._draws = device_of(self.experiment.ray), self.experiment.evaluate.draws
        clean = clean_images(self.experiment)
        self._cells = cells_of_blocks(self.experiment, clean, self._device, _cells_of)
        for run, wanted in self.identities.items():
            require_planned(wanted, {**self._cells[run].identity(clean), "draws": self._draws}, run)

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The images of the set's shard."""
        return self._cells[run].images.read(shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """What every draw says, image by image."""
        cell = self._cells[run]
        models = cell.block.models(cell.defense)
        ids, labels = table.column("id").to_pylist(), cell.block.labels(table.column("label").to_pylist()).tolist()
        rows: dict[int, dict[str, Any]] = {}
        for positions, images in by_size(exact_pixels_of(table), self._device):
            with COMPUTE.held():
                answers = drawn(
                    models, images, [labels[row] for row in positions], [ids[row] for row in positions], self._draws
                )
            rows |= dict(zip(positions, answers, strict=True))
        return ShardOutput(in_order(rows, DRAWS_SCHEMA))
