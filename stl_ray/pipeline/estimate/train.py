"""The estimate of `train`, from one epoch on some of the images by one worker."""

import torch

from stl_ray.config import Experiment
from stl_ray.models import logits_of
from stl_ray.pipeline.batches import class_names, pixels_of
from stl_ray.pipeline.estimate.sampling import sample
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.pipeline.inputs import dataset_of, with_solver
from stl_ray.pipeline.train.job import input_transform_of, is_done, workers_of
from stl_ray.pipeline.train.plan import Training, network_of, plan
from stl_ray.runtime.concurrency import bind
from stl_ray.store.filesystem import canonical_json
from stl_ray.training import ImagesInMemory, Relabelled, train_classifier

_STEPS = 4


def train_steps(experiment: Experiment) -> list[StepEstimate]:
    """A step for each classifier; needs a Ray that is connected.

    Raises:
        IncompleteRunError: if the shards are not there, or the sample cannot be made.
        ConfigError: if the workers do not fit on the cluster.
    """
    experiment = with_solver(experiment)
    config, trainings = experiment.train, plan(experiment)
    if not trainings:
        return []
    shared = config.workers * min(workers_of(experiment).trainings_at_once("train.workers"), len(trainings))
    measured: dict[str, tuple[float, float]] = {}
    steps = []
    for training in trainings:
        done = is_done(experiment, training)
        # Trainings of one recipe on stored images cost the same; behind a defense, its time is added.
        recipe = canonical_json(training.config.model_dump(mode="json")).decode()
        alike = training.name if training.behind else f"{training.classifier} {recipe}"
        if not done and alike not in measured:
            measured[alike] = _measured(experiment, training)
        seconds, weights = measured.get(alike, (0.0, 0.0))
        # The classifier, the best one, and a checkpoint with the optimizer's momentum.
        steps.append(_step(training, done, training.config.epochs, seconds, 4 * weights, shared))
    return steps


def _step(training: Training, done: bool, epochs: int, seconds: float, size: float, workers: int) -> StepEstimate:
    total = training.rows * epochs
    left = 0 if done else total
    return StepEstimate(training.folder, "images", total, left, size, seconds * left, workers)


def _measured(experiment: Experiment, training: Training) -> tuple[float, float]:
    config = training.config
    cpus, gpus = config.cpus_per_worker, int(config.gpu)
    resources = experiment.ray
    return sample(_measure, experiment, training, resources=resources, cpus=cpus, gpus=gpus, item=training.folder)


def _measure(experiment: Experiment, training: Training) -> tuple[float, float]:
    """Seconds of an image in an epoch, and bytes of the weights."""
    config, device = training.config, "cuda" if training.config.gpu else "cpu"
    bind(max(1, config.cpus_per_worker - config.loader_processes))
    dataset = dataset_of(experiment.root, training.dataset)
    table = dataset.head(_STEPS * config.batch_size)
    pixels = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in pixels_of(table)])
    labels, ids = torch.tensor(table.column("label").to_pylist()), table.column("id").to_pylist()
    classifier = network_of(experiment, training).to(device)
    once = config.model_copy(update={"epochs": 1, "start_size": None, "ema": 0.0})
    classes = logits_of(class_names(dataset), classifier.class_names, training.name)
    images = Relabelled(ImagesInMemory(pixels, labels, ids), torch.tensor(classes))
    (epoch,) = train_classifier(
        classifier, images, once, seed=experiment.seed, input_transform=input_transform_of(experiment, training, device)
    )
    return 1 / epoch.images_per_second, float(sum(tensor.nbytes for tensor in classifier.state_dict().values()))
