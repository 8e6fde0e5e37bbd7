"""The estimate of `attack`: its shards, from images that are really attacked, and the calibrations before them.

A set that is not calibrated yet is attacked with a stand-in that costs the same: the common radius of some images, a
universal vector of zeros.
"""

import time

import torch

from stl_ray.attacks import Universal, budget_of
from stl_ray.config import Experiment, NamedAttack
from stl_ray.pipeline.attack.calibration import (
    Calibration,
    calibrated,
    common_budget,
    drawn,
    method_of,
    needs_calibration,
)
from stl_ray.pipeline.attack.job import plan
from stl_ray.pipeline.attack.sets import all_sets, classifier_of, folder_of
from stl_ray.pipeline.attack.target import victims_of
from stl_ray.pipeline.batches import class_names
from stl_ray.pipeline.estimate.detectors import detector_steps
from stl_ray.pipeline.estimate.sampling import sample
from stl_ray.pipeline.estimate.shards import shard_steps
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.pipeline.inputs import dataset_of, with_solver
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.session import device_of
from stl_ray.store import Dataset, Layout

_SAMPLE = 64
_TRAINED = 8
"""Images of the pass over the data, and of one epoch of a universal vector's training, that are timed."""


def attack_steps(experiment: Experiment) -> list[StepEstimate]:
    """A step for each calibration that is not made yet, then one for each set; needs a Ray that is connected.

    Raises:
        IncompleteRunError: if the inputs are not there, or the sample cannot be made.
        ConfigError: if not even one actor fits.
    """
    experiment = with_solver(experiment)
    test = dataset_of(experiment.root, Layout(experiment.root).ingested("test"))
    steps, stand_ins = [], {}
    for config in all_sets(experiment):
        if _is_left(experiment, config, test):
            step, stand_ins[folder_of(config)] = _measured(experiment, config, test)
            steps.append(step)
    victims = victims_of(all_sets(experiment), experiment, class_names(test))
    detectors, calibrations = detector_steps(one.detector for one in victims if one.detector is not None)
    return [*steps, *detectors, *shard_steps(plan(experiment, stand_ins, calibrations), experiment)]


def _is_left(experiment: Experiment, config: NamedAttack, test: Dataset) -> bool:
    if not needs_calibration(config):
        return False
    (attacked,) = victims_of([config], experiment, class_names(test))
    return calibrated(experiment, config, attacked.identity, test) is None


def _measured(experiment: Experiment, config: NamedAttack, test: Dataset) -> tuple[StepEstimate, Calibration]:
    resources = experiment.ray
    name = Layout(experiment.root).calibration(classifier_of(config), config.name)
    gpus = resources.gpus_per_actor if isinstance(method_of(config), Universal) else 0
    cpus = resources.cpus_per_actor
    return sample(_measure, experiment, config, test, name, resources=resources, cpus=cpus, gpus=gpus, item=name)


def _measure(experiment: Experiment, config: NamedAttack, test: Dataset, name: str) -> tuple[StepEstimate, Calibration]:
    bind(experiment.ray.cpus_per_actor)
    device, method, budget = device_of(experiment.ray), method_of(config), budget_of(config)
    seconds, images, size = 0.0, 0, 0
    if budget.kind == "dissimilarity":
        table = test.head(_SAMPLE)
        start = time.monotonic()
        budget = common_budget([table], budget, test.storage.root)
        seconds, images = (time.monotonic() - start) / table.num_rows * test.rows, test.rows
    if isinstance(method, Universal):
        train = dataset_of(experiment.root, Layout(experiment.root).ingested("train"))
        few = drawn(train, _TRAINED, experiment.seed).to(device)
        (attacked,) = victims_of([config], experiment, class_names(test), device)
        once = method.model_copy(update={"epochs": 1})
        start = time.monotonic()
        vector = once.train(attacked.victim, few, budget=budget, seed=experiment.seed)
        each, trained = (time.monotonic() - start) / len(few), min(method.images, train.rows)
        seconds, images, size = (
            seconds + each * trained * method.epochs,
            images + trained * method.epochs,
            vector.nbytes,
        )
        method = method.with_vector(torch.zeros_like(vector))
    # The vector's training ends early where it fools enough of its images.
    step = StepEstimate(name, "images", images, images, size, seconds, workers=1, at_most=size > 0)
    return step, Calibration(budget, method, None)
