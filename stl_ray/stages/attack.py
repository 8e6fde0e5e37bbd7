"""attack: clean test shards -> adversarial shards, crafted on the vanilla classifier (threat tier T1a)."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from stl_ray.attacks import Budget, make_attack
from stl_ray.config import Budgeted, Experiment, NamedAttack
from stl_ray.images import class_names_of, image_schema, to_uint8
from stl_ray.stages.computing import TURNS
from stl_ray.stages.inputs import classifier_of, dataset_of
from stl_ray.stages.records import by_size, pixels_of, plan_parts, stored
from stl_ray.stages.runner import PlannedRun, ShardJob, run_shards
from stl_ray.stages.session import device_of
from stl_ray.stages.works import ShardOutput, TableWork
from stl_ray.store import Dataset, Layout, PlannedShard, require_same
from stl_ray.store.layout import VANILLA
from stl_ray.training import validate_labels


def run(experiment: Experiment) -> dict[str, Any]:
    """Craft every adversarial set; images, counted.

    Raises:
        IncompleteRunError: if the test split was not ingested.
        TrainingError: if a test image has no label, without which nothing can be attacked or scored.
    """
    manifests = run_shards(plan(experiment), experiment)
    return {"images": sum(m["rows"] for m in manifests), "quarantined": sum(m["quarantined"] for m in manifests)}


def plan(experiment: Experiment) -> ShardJob:
    """Every adversarial set.

    Raises:
        IncompleteRunError: if the test split was not ingested.
        TrainingError: if a test image has no label, without which nothing can be attacked or scored.
    """
    layout = Layout(experiment.root)
    dataset = dataset_of(experiment.root, layout.ingested("test"))
    victim, digest = classifier_of(experiment.root, VANILLA)
    for table in dataset.tables():
        ids, labels = (table.column(name).to_pylist() for name in ("id", "label"))
        validate_labels(torch.tensor(labels), ids, victim.class_names)
    planned = [
        PlannedRun(layout.attacked(attack.name), plan_parts(dataset), identity_of(experiment, attack, digest, dataset))
        for attack in experiment.attack.sets
    ]
    return ShardJob("attack", planned, partial(AttackWork, experiment, digest))


def identity_of(experiment: Experiment, attack: NamedAttack, classifier: str, dataset: Dataset) -> dict[str, Any]:
    """What an adversarial set is made of."""
    return {
        "attack": attack.model_dump(mode="json"),
        "seed": experiment.seed,
        "classifier": classifier,
        "input": dataset.digest,
    }


def budget_of(attack: Budgeted) -> Budget:
    """The budget of a set, in [0, 1] pixels."""
    if attack.linf is not None:
        return Budget(kind="linf", size=attack.linf / 255)
    if attack.l2 is not None:
        return Budget(kind="l2", size=attack.l2, space=attack.space)
    return Budget(size=float(attack.dissimilarity or 0), space=attack.space)


@dataclass
class AttackWork(TableWork):
    """Attacks the images of a shard at the budget of the set.

    Args:
        experiment: as the driver has it.
        digest: of the classifier that is attacked, which the one loaded here must have.
    """

    experiment: Experiment
    digest: str

    def __post_init__(self) -> None:
        layout = Layout(self.experiment.root)
        self._device = device_of(self.experiment.ray)
        self._victim, digest = classifier_of(self.experiment.root, VANILLA, self._device)
        require_same({"classifier": digest}, {"classifier": self.digest}, layout.classifier(VANILLA))
        self._clean = dataset_of(self.experiment.root, layout.ingested("test"))
        self._sets = {layout.attacked(attack.name): attack for attack in self.experiment.attack.sets}

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The clean images of the shard."""
        return self._clean.read(shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Images of one adversarial set."""
        config = self._sets[run]
        attack = make_attack(config.attack, config.options)
        ids, labels = table.column("id").to_pylist(), table.column("label").to_numpy()
        paths = [image["path"] for image in table.column("image").to_pylist()]
        rows: dict[int, dict[str, Any]] = {}
        for positions, images in by_size(pixels_of(table), self._device):
            with TURNS.turn():
                result = attack(
                    self._victim,
                    images,
                    torch.from_numpy(labels[positions]).to(self._device),
                    budget=budget_of(config),
                    ids=[ids[position] for position in positions],
                    seed=self.experiment.seed,
                    store=config.store,
                )
            encoded = stored(to_uint8(result.images), [paths[position] for position in positions])
            for index, position in enumerate(positions):
                rows[position] = {
                    "id": ids[position],
                    "image": encoded[index],
                    "label": int(labels[position]),
                    "attack": config.name,
                    "success": bool(result.success[index]),
                    "status": str(result.status[index]),
                    "dissimilarity": float(result.dissimilarity[index]),
                    "linf": float(result.linf[index]),
                    "queries": int(result.queries[index]),
                    "source_pred": int(result.source_pred[index]),
                }
        schema = image_schema("adversarial", class_names_of(table.schema))
        return ShardOutput(pa.Table.from_pylist([rows[position] for position in sorted(rows)], schema=schema))
