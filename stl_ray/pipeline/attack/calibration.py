"""A calibration: the common radius or universal vector from a pass over the data before any shard. An artifact.

Made once, by one Ray task; its digest is in the identity of the set, so every shard is crafted with the same one.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
import torch
from torch import Tensor

from stl_ray.attacks import Attack, Budget, Universal, at_mean, budget_of, make_attack
from stl_ray.config import Experiment, NamedAttack
from stl_ray.errors import ArtifactError, IncompleteRunError, InputError
from stl_ray.evaluation.batches import by_size
from stl_ray.images import to_tensor
from stl_ray.pipeline.attack.sets import classifier_of, folder_of
from stl_ray.pipeline.attack.target import victims_of
from stl_ray.pipeline.batches import class_names, pixels_of
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.node_labels import placement
from stl_ray.runtime.session import device_of
from stl_ray.seeding import seed_of
from stl_ray.store import Artifact, Dataset, Layout, load_artifact, require_planned, require_same, save_artifact
from stl_ray.store.artifacts import artifact_digest

KIND, VERSION = "calibration", 1


class Calibration(NamedTuple):
    """The budget of every image, and the attack that is ready to run."""

    budget: Budget
    attack: Attack
    digest: str | None  # of the artifact, None where none is needed


def needs_calibration(config: NamedAttack) -> bool:
    """Whether a set depends on a pass over the data; one vector has one norm, so its dissimilarity is a mean."""
    return config.budget == "dataset_mean" or isinstance(method_of(config), Universal)


def calibration_of(experiment: Experiment, config: NamedAttack) -> Calibration:
    """The calibration that was made for a set; where none is needed, its budget and attack as configured.

    Raises:
        IncompleteRunError: if one is needed and was not made.
    """
    if not needs_calibration(config):
        return Calibration(budget_of(config), method_of(config), None)
    artifact = _artifact(experiment, config)
    if artifact is None:
        raise IncompleteRunError("the set is not calibrated; run `stl-ray attack`", item=config.name)
    budget, method = Budget.model_validate(artifact.meta["budget"]), method_of(config)
    if isinstance(method, Universal):
        method = method.with_vector(torch.from_numpy(artifact.arrays["vector"].copy()).to(device_of(experiment.ray)))
    return Calibration(budget, method, artifact.digest)


def calibrate(experiment: Experiment, config: NamedAttack, victim: Any, test: Dataset, stored: str | None) -> str:
    """Make the calibration of a set unless there is one of the same inputs; returns its digest. Needs Ray.

    Args:
        experiment: root, seed and resources.
        config: the set, with its classifier.
        victim: the identity of the classifier that it is crafted on.
        test: the images that it will attack.
        stored: the digest that the set in the folder was made with; None: there is no set.

    Raises:
        IncompleteRunError: if the training split is needed and was not ingested.
        RunIdentityError: if the set in the folder was made with another calibration, which is left as it is.
    """
    existing = calibrated(experiment, config, victim, test)
    if existing is not None:
        return existing.digest
    resources, folder = experiment.ray, _folder(experiment, config)
    gpus = resources.gpus_per_actor if isinstance(method_of(config), Universal) else 0
    task = ray.remote(num_cpus=resources.cpus_per_actor, num_gpus=gpus, **placement(resources))(make_calibration)
    arrays, meta = ray.get(task.remote(experiment, config, victim))
    digest = artifact_digest(KIND, VERSION, arrays, meta)
    if stored is not None:
        require_same({"calibration": stored}, {"calibration": digest}, folder_of(config))
    return save_artifact(folder, KIND, VERSION, arrays, meta)


def calibrated(experiment: Experiment, config: NamedAttack, victim: Any, test: Dataset) -> Artifact | None:
    """The calibration of these inputs (arguments as those of `calibrate`), if it was made."""
    artifact = _artifact(experiment, config)
    if artifact is None or artifact.meta["made_of"] != _inputs(experiment, config, victim, test):
        return None
    return artifact


def make_calibration(
    experiment: Experiment, config: NamedAttack, victim: Any
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Arrays and record of the calibration of a set; arguments as those of `calibrate`. Nothing is written."""
    bind(experiment.ray.cpus_per_actor)
    layout = Layout(experiment.root)
    test = dataset_of(experiment.root, layout.ingested("test"))
    budget = budget_of(config)
    if budget.kind == "dissimilarity":
        budget = common_budget(test.tables(), budget, test.storage.root)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    method = method_of(config)
    if isinstance(method, Universal):
        device = device_of(experiment.ray)
        (attacked,) = victims_of([config], experiment, class_names(test), device)
        require_planned({"classifier": victim}, {"classifier": attacked.identity}, folder_of(config))
        train = dataset_of(experiment.root, layout.ingested("train"))
        images = drawn(train, method.images, experiment.seed).to(device)
        arrays["vector"] = method.train(attacked.victim, images, budget=budget, seed=experiment.seed).cpu().numpy()
    return arrays, {"made_of": _inputs(experiment, config, victim, test), "budget": budget.model_dump(mode="json")}


def _artifact(experiment: Experiment, config: NamedAttack) -> Artifact | None:
    try:
        return load_artifact(_folder(experiment, config), KIND, VERSION)
    except ArtifactError:
        return None


def _folder(experiment: Experiment, config: NamedAttack) -> str:
    layout = Layout(experiment.root)
    return layout.uri(layout.calibration(classifier_of(config), config.name))


def _inputs(experiment: Experiment, config: NamedAttack, victim: Any, test: Dataset) -> dict[str, Any]:
    """Whatever can change a calibration."""
    made_of: dict[str, Any] = {"attack": config.model_dump(mode="json"), "test": test.digest}
    if isinstance(method_of(config), Universal):
        train = dataset_of(experiment.root, Layout(experiment.root).ingested("train"))
        made_of |= {"seed": experiment.seed, "classifier": victim, "train": train.digest}
    return made_of


def common_budget(tables: Iterable[pa.Table], budget: Budget, item: str) -> Budget:
    """The L2 budget at which the mean dissimilarity of the images in these tables is the given one.

    Raises:
        InputError: every image of `item` is black.
    """
    return at_mean(budget, (images for table in tables for _, images in by_size(pixels_of(table), "cpu")), item)


def drawn(dataset: Dataset, most: int, seed: int) -> Tensor:
    """At most `most` images of a dataset, drawn by seed, of one size: (N, 3, H, W).

    Raises:
        InputError: they have several sizes.
    """
    ids_by_part = [table.column("id").to_pylist() for table in dataset.columns("id")]
    ids = [identifier for part_ids in ids_by_part for identifier in part_ids]
    wanted = set(sorted(ids, key=lambda identifier: seed_of(seed, identifier, "universal training"))[:most])
    pixels = []
    for part, part_ids in zip(dataset.parts, ids_by_part, strict=True):
        rows = [row for row, identifier in enumerate(part_ids) if identifier in wanted]
        pixels += pixels_of(dataset.read(part).take(rows)) if rows else []
    if len({image.shape for image in pixels}) != 1:
        raise InputError("one vector needs images of one size; set ingest.size", item=dataset.storage.root)
    return to_tensor(pixels)


def method_of(config: NamedAttack) -> Attack:
    """The attack of a set with its options."""
    return make_attack(config.attack, config.options, config.engine)
