"""project: image shards -> purified image shards, every split through every defense."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from stl_ray.config import Experiment
from stl_ray.defenses import Transformation, identity_in_run, is_transformation
from stl_ray.pipeline.batches import plan_parts
from stl_ray.pipeline.defenses import make_defenses, transformation
from stl_ray.pipeline.inputs import dataset_of, with_solver
from stl_ray.pipeline.look import device_to_look, look_at
from stl_ray.pipeline.purify import purify_table
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Dataset, Layout, PlannedShard, require_planned

TRAIN = "train"


def run(experiment: Experiment) -> dict[str, Any]:
    """Purify every split with every defense; the counts of images and quarantined.

    Raises:
        IncompleteRunError: if a split was not ingested.
        ArtifactError: if a defense needs the space and there is none.
        StlRayError: if a defense cannot do with the images.
    """
    listed = any(is_transformation(item.defense) for item in experiment.defenses)
    if not listed or not splits_of(experiment):
        lacks = (
            "there are no images of project.splits"
            if listed
            else "no defense is listed that makes an image of an image"
        )
        return {"images": 0, "quarantined": 0, "summary": f"nothing to purify, {lacks}"}
    job = plan(experiment)
    _look(experiment)
    manifests = run_shards(job, experiment)
    return {"images": sum(m["rows"] for m in manifests), "quarantined": sum(m["quarantined"] for m in manifests)}


def _look(experiment: Experiment) -> None:
    """Look at every defense with images of the first split."""
    device = device_to_look(experiment.ray)
    if device is not None:
        images = dataset_of(experiment.root, Layout(experiment.root).ingested(splits_of(experiment)[0]))
        look_at({}, {name: (made, {}) for name, made in _transformations(experiment, device).items()}, images, device)


def plan(experiment: Experiment) -> ShardJob:
    """The runs of every split through every defense.

    Raises:
        IncompleteRunError: if a split was not ingested.
        ArtifactError: if a defense needs the space and there is none.
    """
    experiment = with_solver(experiment)
    layout = Layout(experiment.root)
    planned = []
    for name, defense in _transformations(experiment, "cpu").items():
        for split in splits_of(experiment):
            dataset = dataset_of(experiment.root, layout.ingested(split))
            identity = identity_of(defense, dataset, split, experiment.seed)
            planned.append(PlannedRun(layout.projected(name, split), plan_parts(dataset), identity))
    identities = {run.folder: run.identity for run in planned}
    return ShardJob("project", planned, partial(ProjectTask, experiment, identities))


def splits_of(experiment: Experiment) -> list[str]:
    """The splits to purify that the experiment has images of."""
    return [split for split in experiment.project.splits if split in experiment.ingest.sources]


def _transformations(experiment: Experiment, device: str) -> dict[str, Transformation]:
    """The defenses whose images are stored; those with several views or a network of their own have none."""
    stored = [item.name for item in experiment.defenses if is_transformation(item.defense)]
    made = make_defenses(experiment, device, names=stored)
    return {name: transformation(defense) for name, defense in made.items()}


def identity_of(defense: Transformation, dataset: Dataset, split: str, seed: int) -> dict[str, Any]:
    """The identity of a purified split; the run seed belongs to it where the defense draws."""
    return {"defense": identity_in_run(defense, seed), "input": dataset.digest, "exclude_self": split == TRAIN}


@dataclass
class ProjectTask(TableTask):
    """Purifies the images of a shard; an image whose solve diverges is set aside.

    Args:
        experiment: as the driver has it.
        identities: of the runs; the defenses that are loaded here must have the same.
    """

    experiment: Experiment
    identities: dict[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        layout = Layout(self.experiment.root)
        self._device = device_of(self.experiment.ray)
        self._defenses = _transformations(self.experiment, self._device)
        self._datasets = {
            split: dataset_of(self.experiment.root, layout.ingested(split)) for split in self.experiment.project.splits
        }
        self._inputs = {
            layout.projected(name, split): (name, split) for name in self._defenses for split in self._datasets
        }
        for run, (name, split) in self._inputs.items():
            identity = identity_of(self._defenses[name], self._datasets[split], split, self.experiment.seed)
            require_planned(self.identities[run], identity, run)

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The clean images of the shard."""
        return self._datasets[self._inputs[run][1]].read(shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Images of one split through one defense."""
        name, split = self._inputs[run]
        return purify_table(
            self._defenses[name], table, seed=self.experiment.seed, exclude_self=split == TRAIN, device=self._device
        )
