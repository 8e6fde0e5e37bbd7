"""attack: clean test shards -> adversarial shards against a classifier, alone or behind a defense."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from stl_ray.config import Experiment, NamedAttack
from stl_ray.defenses import Calibration as DetectorCalibration
from stl_ray.evaluation.batches import by_size, in_order
from stl_ray.images import class_names_of, image_schema, to_uint8
from stl_ray.models import Classifier, Victim
from stl_ray.pipeline.attack.calibration import (
    Calibration,
    calibrate,
    calibration_of,
    method_of,
    needs_calibration,
)
from stl_ray.pipeline.attack.sets import all_sets, classifier_of, folder_of
from stl_ray.pipeline.attack.target import Attacked, victims_of
from stl_ray.pipeline.batches import class_names, exact_bytes, pixels_of, plan_parts, stored
from stl_ray.pipeline.classifiers import classifier_config, load_classifier, trained_for
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.inputs import dataset_of, with_solver
from stl_ray.pipeline.look import device_to_look, look_at
from stl_ray.runtime.concurrency import COMPUTE
from stl_ray.runtime.session import device_of
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Dataset, Layout, PlannedShard, require_planned
from stl_ray.training import validate_labels


def run(experiment: Experiment) -> dict[str, Any]:
    """Craft every adversarial set; the counts of images and quarantined.

    Raises:
        IncompleteRunError: if the test split was not ingested.
        TrainingError: if a test image has no label, without which nothing can be attacked or scored.
        TensorError, GradientError: as for `look`.
    """
    job = plan(experiment)
    remark = look(experiment)
    manifests = run_shards(job, experiment)
    counts = {"images": sum(m["rows"] for m in manifests), "quarantined": sum(m["quarantined"] for m in manifests)}
    return {**counts, **remark}


def look(experiment: Experiment) -> dict[str, str]:
    """Look at the models of all sets, and at the defenses in front of them; a `remark`, if there is any.

    Raises:
        TensorError: a model's answers cannot be used.
        GradientError: its gradient cannot, and an attack needs it.
        StlRayError: a defense cannot be used, or not in front of a classifier.
    """
    device = device_to_look(experiment.ray)
    if device is None:
        return {}
    clean = dataset_of(experiment.root, Layout(experiment.root).ingested("test"))
    names = class_names(clean)
    models: dict[str, tuple[Classifier, bool]] = {}
    sets = all_sets(experiment)
    chosen = dict.fromkeys(config.victim.defense for config in sets if config.victim.defense is not None)
    defenses = make_defenses(experiment, device, names=chosen)
    behind: dict[str, dict[str, Victim]] = {name: {} for name in defenses}
    for config in sets:
        classifier, own = classifier_of(config), config.victim.retrained_for
        if own not in trained_for(experiment, classifier_config(experiment, classifier)):
            own = None  # an ensemble, whose members are looked at by the jobs that retrain for them
        name = classifier if own is None else f"{classifier} retrained for {own}"
        model, needed = models.get(name) or (
            load_classifier(experiment, classifier, own, names, device).classifier,
            False,
        )
        queries_alone = config.victim.defense is not None and config.victim.gradient == "none"
        models[name] = model, needed or (method_of(config).needs_gradient and not queries_alone)
        if config.victim.defense is not None:
            behind[config.victim.defense][name] = model
    return look_at(models, {name: (made, behind[name]) for name, made in defenses.items()}, clean, device)


def plan(
    experiment: Experiment,
    calibrations: Mapping[str, Calibration] | None = None,
    detectors: Mapping[str, DetectorCalibration] | None = None,
) -> ShardJob:
    """The runs of every adversarial set; what needs a pass over the data first is calibrated when the job is run.

    Args:
        experiment: of the sets.
        calibrations: by folder of the set, stand-ins for those that are not made yet, for an estimate.
        detectors: by folder, the same for those of the victims' detectors.

    Raises:
        IncompleteRunError: if the test split was not ingested.
        TrainingError: if a test image has no label, without which nothing can be attacked or scored.
    """
    experiment = with_solver(experiment)
    layout = Layout(experiment.root)
    dataset = dataset_of(experiment.root, layout.ingested("test"))
    classes, ids, labels = class_names(dataset), dataset.column("id"), torch.tensor(dataset.column("label"))
    validate_labels(labels, lambda positions: [ids[position] for position in positions], classes)
    victims: dict[str, Any] = {}
    planned = []
    sets = all_sets(experiment)
    for config, victim in zip(sets, victims_of(sets, experiment, classes), strict=True):
        folder = folder_of(config)
        victims[folder] = victim.identity
        deferred: dict[str, Callable[[Any], Any]] = {}
        if victim.detector is not None:
            deferred["detector"] = victim.detector.make  # before a vector that is learned through it
        if needs_calibration(config):
            deferred["calibration"] = partial(calibrate, experiment, config, victim.identity, dataset)
        identity = _identity(experiment, config, victim.identity, dataset)
        planned.append(PlannedRun(folder, plan_parts(dataset), identity, deferred))
    return ShardJob("attack", planned, partial(AttackTask, experiment, victims, calibrations or {}, detectors or {}))


def identity_of(experiment: Experiment, attack: NamedAttack, victim: Attacked, dataset: Dataset) -> dict[str, Any]:
    """The identity of a finished adversarial set.

    Args:
        experiment: its seed and root.
        attack: the set.
        victim: that it was crafted on.
        dataset: the clean images.

    Raises:
        IncompleteRunError: if the set needs a calibration that was not made.
    """
    identity, digest = (
        _identity(experiment, attack, victim.identity, dataset),
        calibration_of(experiment, attack).digest,
    )
    if digest is not None:
        identity["calibration"] = digest
    if victim.detector is not None:
        # Where it is not there, the set was made with another one, which is said beside what else differs.
        detector = victim.detector.stored()
        identity["detector"] = None if detector is None else detector.digest
    return identity


def _identity(experiment: Experiment, attack: NamedAttack, victim: Any, dataset: Dataset) -> dict[str, Any]:
    return {
        "attack": attack.model_dump(mode="json"),
        "seed": experiment.seed,
        "classifier": victim,
        "input": dataset.digest,
    }


@dataclass
class AttackTask(TableTask):
    """Attacks the images of a shard at the budget of the set.

    Args:
        experiment: as the driver has it.
        victims: by folder of the set, the identity of the victim, which the one loaded here must have.
        calibrations: by folder of the set, stand-ins for the stored ones.
        detectors: by folder, stand-ins for the calibrations of the victims' detectors.
    """

    experiment: Experiment
    victims: dict[str, Any]
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    detectors: Mapping[str, DetectorCalibration] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layout = Layout(self.experiment.root)
        self._device = device_of(self.experiment.ray)
        self._clean = dataset_of(self.experiment.root, layout.ingested("test"))
        classes = class_names(self._clean)
        self._sets = {}
        sets = all_sets(self.experiment)
        victims = victims_of(sets, self.experiment, classes, self._device, self.detectors)
        for config, victim in zip(sets, victims, strict=True):
            run = folder_of(config)
            require_planned({"classifier": self.victims[run]}, {"classifier": victim.identity}, run)
            if victim.detector is not None and victim.detector.folder not in self.detectors:
                victim.detector.required()
            calibration = self.calibrations.get(run) or calibration_of(self.experiment, config)
            self._sets[run] = (config, victim, calibration)

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The clean images of the shard."""
        return self._clean.read(shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Images of one adversarial set."""
        config, victim, calibration = self._sets[run]
        ids, labels = table.column("id").to_pylist(), table.column("label").to_numpy()
        paths = [image["path"] for image in table.column("image").to_pylist()]
        rows: dict[int, dict[str, Any]] = {}
        for positions, images in by_size(pixels_of(table), self._device):
            with COMPUTE.held():
                result = calibration.attack(
                    victim.victim,
                    images,
                    victim.classes[torch.from_numpy(labels[positions]).to(self._device)],
                    budget=calibration.budget,
                    ids=[ids[position] for position in positions],
                    seed=self.experiment.seed,
                    store=config.store,
                )
            encoded = stored(to_uint8(result.images), [paths[position] for position in positions])
            records = result.records()
            exact = exact_bytes(result.images) if config.store == "f32" else [None] * len(positions)
            for index, position in enumerate(positions):
                rows[position] = {
                    "id": ids[position],
                    "image": encoded[index],
                    "label": int(labels[position]),
                    "pixels": exact[index],
                    "attack": config.name,
                    **records[index],
                }
        schema = image_schema("adversarial", class_names_of(table.schema))
        return ShardOutput(in_order(rows, schema))
