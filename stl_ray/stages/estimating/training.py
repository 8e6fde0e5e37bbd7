"""What `train` would take: one epoch on some of the images, by one worker."""

from typing import Any

import ray
import torch
from ray.exceptions import RayError

from stl_ray.config import Experiment
from stl_ray.errors import IncompleteRunError
from stl_ray.models import build_classifier
from stl_ray.stages.estimating.steps import StepEstimate
from stl_ray.stages.inputs import dataset_of, with_solver
from stl_ray.stages.records import class_names, pixels_of
from stl_ray.stages.train import Training, is_done, plan
from stl_ray.stages.trainer import Workers
from stl_ray.store import Layout
from stl_ray.training import train_classifier

_STEPS = 4


def train_steps(experiment: Experiment) -> list[StepEstimate]:
    """A step for each classifier; needs a Ray that is connected.

    Raises:
        IncompleteRunError: if the shards are not there, or the sample cannot be made.
        ConfigError: if the workers do not fit on the cluster.
    """
    experiment = with_solver(experiment)
    config, trainings = experiment.train, plan(experiment)
    workers = Workers(config.workers, config.cpus_per_worker, config.gpu)
    shared = config.workers * min(workers.trainings_at_once("train.workers"), len(trainings))
    seconds, weights = _measured(experiment)
    # The classifier, and a checkpoint with the optimizer's momentum.
    return [
        _step(training, is_done(experiment, training), config.epochs, seconds, 3 * weights, shared)
        for training in trainings
    ]


def _step(training: Training, done: bool, epochs: int, seconds: float, size: float, workers: int) -> StepEstimate:
    total = training.rows * epochs
    left = 0 if done else total
    return StepEstimate(training.folder, "images", total, left, size, seconds * left, workers)


def _measured(experiment: Experiment) -> tuple[float, float]:
    config = experiment.train
    task = ray.remote(num_cpus=config.cpus_per_worker, num_gpus=int(config.gpu), max_retries=0)(_measure)
    try:
        measured: tuple[float, float] = ray.get(task.remote(experiment))
    except RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise IncompleteRunError(f"the sample cannot be made ({last})", item="train") from error
    return measured


def _measure(experiment: Experiment) -> tuple[float, float]:
    """Seconds of an image in an epoch, and bytes of the weights."""
    config = experiment.train
    torch.set_num_threads(config.cpus_per_worker)
    dataset = dataset_of(experiment.root, Layout(experiment.root).ingested("train"))
    table = dataset.read(dataset.parts[0]).slice(0, _STEPS * config.batch_size)
    labels = torch.tensor(table.column("label").to_pylist())
    pixels = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in pixels_of(table)])
    names = class_names(dataset)
    classifier: Any = build_classifier(config.classifier, names, seed=experiment.seed)
    if config.gpu:
        classifier = classifier.cuda()
    once = config.model_copy(update={"epochs": 1})
    ids = table.column("id").to_pylist()
    (epoch,) = train_classifier(classifier, pixels, labels, ids, once, seed=experiment.seed)
    return 1 / epoch.images_per_second, float(sum(tensor.nbytes for tensor in classifier.state_dict().values()))
