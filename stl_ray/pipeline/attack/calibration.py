"""What an attack needs from a pass over the data before any shard: a common radius, a universal vector. An artifact.

Made once, by one Ray task; its digest is in the identity of the set, so every shard is crafted with the same one.
"""

from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from torch import Tensor

from stl_ray.attacks import Attack, Budget, Universal, make_attack
from stl_ray.attacks.budget import standardized
from stl_ray.config import Experiment, NamedAttack
from stl_ray.errors import ArtifactError, IncompleteRunError, InputError
from stl_ray.images import to_tensor
from stl_ray.metrics import l2_norm
from stl_ray.pipeline.attack.target import attacked_of
from stl_ray.pipeline.batches import by_size, class_names, pixels_of
from stl_ray.pipeline.budgets import budget_of
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.session import device_of
from stl_ray.seeding import seed_of
from stl_ray.store import Dataset, Layout, load_artifact, save_artifact

_KIND, _VERSION = "calibration", 1


class Calibration(NamedTuple):
    """The budget of every image, and the attack that is ready to run."""

    budget: Budget
    attack: Attack
    digest: str | None  # of the artifact, None where none is needed


def needs_calibration(config: NamedAttack) -> bool:
    """Whether a set depends on a pass over the data; one vector has one norm, so its dissimilarity is a mean."""
    return config.budget == "dataset_mean" or isinstance(_method(config), Universal)


def calibration_of(experiment: Experiment, config: NamedAttack) -> Calibration:
    """The calibration that was made for a set, or what takes its place where none is needed.

    Raises:
        IncompleteRunError: if it is needed and was not made.
    """
    method = _method(config)
    if not needs_calibration(config):
        return Calibration(budget_of(config), method, None)
    layout = Layout(experiment.root)
    try:
        artifact = load_artifact(layout.uri(layout.calibration(config.name)), _KIND, _VERSION)
    except ArtifactError as error:
        raise IncompleteRunError(
            f"the set is not calibrated; run `stl-ray attack` ({error.message})", item=config.name
        ) from error
    budget = Budget.model_validate(artifact.meta["budget"])
    if isinstance(method, Universal):
        method = method.with_vector(torch.from_numpy(artifact.arrays["vector"].copy()).to(device_of(experiment.ray)))
    return Calibration(budget, method, artifact.digest)


def calibrate(experiment: Experiment, config: NamedAttack, victim: Any, test: Dataset) -> None:
    """Make the calibration of a set where it is needed and there is none of the same inputs; needs a Ray.

    Args:
        experiment: root, seed and resources.
        config: the set.
        victim: the identity of the classifier that it is crafted on.
        test: the images that it will attack.

    Raises:
        IncompleteRunError: if the training split is needed and was not ingested.
    """
    if not needs_calibration(config):
        return
    layout = Layout(experiment.root)
    try:
        made_of = load_artifact(layout.uri(layout.calibration(config.name)), _KIND, _VERSION).meta["made_of"]
    except ArtifactError:
        made_of = None  # there is none yet
    if made_of == _inputs(experiment, config, victim, test):
        return
    resources = experiment.ray
    gpus = resources.gpus_per_actor if isinstance(_method(config), Universal) else 0
    task = ray.remote(num_cpus=resources.cpus_per_actor, num_gpus=gpus)(make_calibration)
    ray.get(task.remote(experiment, config, victim))


def make_calibration(experiment: Experiment, config: NamedAttack, victim: Any) -> None:
    """Make the calibration of a set, here and now; arguments as those of `calibrate`."""
    bind(experiment.ray.cpus_per_actor)
    layout = Layout(experiment.root)
    test = dataset_of(experiment.root, layout.ingested("test"))
    budget = budget_of(config)
    if budget.kind == "dissimilarity":
        budget = Budget(kind="l2", size=_common_radius(test, budget), space=budget.space)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    method = _method(config)
    if isinstance(method, Universal):
        device = device_of(experiment.ray)
        attacked = attacked_of(experiment, config.victim, class_names(test), device).victim
        train = dataset_of(experiment.root, layout.ingested("train"))
        images = _drawn(train, method.images, experiment.seed).to(device)
        arrays["vector"] = method.train(attacked, images, budget=budget, seed=experiment.seed).cpu().numpy()
    meta = {"made_of": _inputs(experiment, config, victim, test), "budget": budget.model_dump(mode="json")}
    save_artifact(layout.uri(layout.calibration(config.name)), _KIND, _VERSION, arrays, meta)


def _inputs(experiment: Experiment, config: NamedAttack, victim: Any, test: Dataset) -> dict[str, Any]:
    """Whatever can change a calibration."""
    made_of: dict[str, Any] = {"attack": config.model_dump(mode="json"), "test": test.digest}
    if isinstance(_method(config), Universal):
        train = dataset_of(experiment.root, Layout(experiment.root).ingested("train"))
        made_of |= {"seed": experiment.seed, "classifier": victim, "train": train.digest}
    return made_of


def _common_radius(dataset: Dataset, budget: Budget) -> float:
    """The L2 radius at which the images' mean dissimilarity is the budget; black images have none and are left out."""
    inverse, count = 0.0, 0
    for table in dataset.tables():
        for _, images in by_size(pixels_of(table), "cpu"):
            norms = l2_norm((images if budget.space == "pixel" else standardized(images)).double())
            inverse += float((1 / norms[norms > 0]).sum())
            count += int((norms > 0).sum())
    if count == 0:
        raise InputError("every image is black", item=dataset.storage.root)
    return budget.size * count / inverse


def _drawn(dataset: Dataset, most: int, seed: int) -> Tensor:
    """At most so many images of a dataset, drawn by seed, of one size."""
    names = [name for table in dataset.tables() for name in table.column("id").to_pylist()]
    wanted = set(sorted(names, key=lambda name: seed_of(seed, name, "universal training"))[:most])
    pixels = []
    for table in dataset.tables():
        rows = [row for row, name in enumerate(table.column("id").to_pylist()) if name in wanted]
        pixels += pixels_of(table.take(rows)) if rows else []
    if len({image.shape for image in pixels}) != 1:
        raise InputError("one vector needs images of one size; set ingest.size", item=dataset.storage.root)
    return to_tensor(pixels)


def _method(config: NamedAttack) -> Attack:
    return make_attack(config.attack, config.options, config.engine)
