"""The estimate of `fit`: one worker really does every step of every space with some of the images."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from stl_ray.config import DictionaryConfig, Experiment, FitConfig
from stl_ray.csc.learning import learn_dictionary
from stl_ray.csc.learning.online import BLOCKS_AT_ONCE
from stl_ray.evaluation.batches import by_size
from stl_ray.pipeline.batches import pixels_of
from stl_ray.pipeline.estimate.artifacts import artifact_steps
from stl_ray.pipeline.estimate.sampling import sample
from stl_ray.pipeline.estimate.shards import shard_steps
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.pipeline.fit.dictionaries import dictionary_workers
from stl_ray.pipeline.fit.job import fits_of
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.pipeline.fit.thumbnails import shard_job as thumbnail_job
from stl_ray.pipeline.fitted import artifacts_of
from stl_ray.pipeline.inputs import training_images, with_solver
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.session import device_of
from stl_ray.space import encode, fit_clusters, thumbnails
from stl_ray.store import Dataset, Layout, Storage
from stl_ray.store.runs import MANIFEST
from stl_ray.training.space.autoencoder import new_autoencoder, train_autoencoder
from stl_ray.training.space.clusters import cluster_name
from stl_ray.training.space.dictionaries import UNIVERSAL

_SAMPLE = 128
_POINTS = 4096  # on which clustering is timed: fewer are cheaper than their share
_ITERATIONS = 2

_FLOAT, _IDS = 4, 24


@dataclass(frozen=True)
class _Costs:
    """The costs of a worker: seconds for an image in an epoch, for a latent, for a latent to be clustered, for an image
    to be coded once; and bytes of weights, of a latent, of a stored image."""

    epoch: float
    latent: float
    point: float
    coded: float
    weights: int
    latent_bytes: int
    image_bytes: float


def fit_steps(experiment: Experiment) -> list[StepEstimate]:
    """The steps of `fit` for every space, those that spaces share once, and for other artifacts; needs a Ray that is connected.

    Raises:
        IncompleteRunError: if the training split was not ingested, or the sample cannot be made.
        ConfigError: if not even one worker fits.
    """
    settled = with_solver(experiment)
    steps = [step for fit in fits_of(settled) for step in _steps_of(fit)]
    for artifact in artifacts_of(settled):
        steps += artifact_steps(artifact)
    return list({step.name: step for step in steps}.values())


def _steps_of(fit: SpaceFit) -> list[StepEstimate]:
    config, experiment = fit.space, fit.experiment
    dataset, storage = training_images(experiment), Storage.open(experiment.root)
    images, costs = dataset.rows, _measured(fit, dataset)
    actors = dictionary_workers(experiment.ray)

    def step(name: str, artifact: str, total: int, cost: float, size: float, workers: int) -> StepEstimate:
        left = 0 if storage.exists(f"{name}/{artifact}") else total
        return StepEstimate(name, "images", total, left, size, cost * left, workers)

    # A pretrained one is copied. Else: weights, Adam's two moments, the best weights, and the artifact.
    epochs = 0 if config.autoencoder.pretrained else config.autoencoder.epochs
    weights = 5 * costs.weights
    latents = images * costs.latent_bytes
    names = [UNIVERSAL, *map(cluster_name, range(config.clusters))]
    drawn = min(len(names) * (config.dictionary.images + config.dictionary.holdout), images)
    pca = images * config.pca_components * _FLOAT
    return [
        *shard_steps(thumbnail_job(fit), experiment),
        step(fit.autoencoder, "autoencoder.json", images, costs.epoch * epochs, weights, config.autoencoder.workers),
        step(fit.latents, MANIFEST, images, costs.latent, latents, actors),
        step(fit.strata, "strata.json", images, costs.point, pca, 1),
        # Copies of what is stored.
        step(fit.samples, MANIFEST, drawn, 0.0, drawn * costs.image_bytes, actors),
        _dictionaries(fit, names, costs.coded, actors),
    ]


def _dictionaries(fit: SpaceFit, names: list[str], cost: float, workers: int) -> StepEstimate:
    """All dictionaries, in iterations; most of them stop before the last."""
    config, storage = fit.space.dictionary, Storage.open(fit.experiment.root)
    left = [name for name in names if not storage.exists(f"{fit.dictionary(name)}/dictionary.json")]
    seconds = cost * _coded(config) * config.iterations * len(left)
    size = len(names) * config.filters * 3 * config.size**2 * _FLOAT
    total, rest = (config.iterations * len(some) for some in (names, left))
    return StepEstimate(fit.dictionaries, "iterations", total, rest, size, seconds, workers)


def _coded(config: DictionaryConfig) -> int:
    """Images that are coded in an iteration, the holdout included."""
    return config.holdout + (
        min(config.images, BLOCKS_AT_ONCE * config.block) if config.method == "online" else config.images
    )


def _measured(fit: SpaceFit, dataset: Dataset) -> _Costs:
    config = fit.experiment.ray
    cpus, gpus = config.cpus_per_actor, config.gpus_per_actor
    return sample(_measure, fit, dataset, resources=config, cpus=cpus, gpus=gpus, item=Layout.fit)


def _measure(fit: SpaceFit, dataset: Dataset) -> _Costs:
    resources, config = fit.experiment.ray, fit.space
    bind(resources.cpus_per_actor)
    device = device_of(resources)
    table = dataset.head(_SAMPLE)
    # The images of the most frequent size; the others cost as much.
    _, images = max(by_size(pixels_of(table), device), key=lambda batch: len(batch[0]))
    small = thumbnails(images.cpu(), config.autoencoder.side)
    small = small.repeat(-(-_SAMPLE // len(small)), 1, 1, 1)[:_SAMPLE]
    autoencoder = new_autoencoder(config.autoencoder.side, seed=fit.seed).to(device)
    once = config.autoencoder.model_copy(update={"epochs": 1})
    (epoch,) = train_autoencoder(autoencoder, small, once, seed=fit.seed)
    start = time.monotonic()
    latents = encode(autoencoder, small.to(device)).cpu()
    latent = (time.monotonic() - start) / _SAMPLE
    return _Costs(
        epoch=1 / epoch.images_per_second,
        latent=latent,
        point=_clustering(latents, config, fit.seed),
        coded=_coding(images, config.dictionary, fit.seed, fit.experiment.solver.method),
        weights=sum(tensor.nbytes for tensor in autoencoder.state_dict().values()),
        latent_bytes=latents.shape[1] * _FLOAT + _IDS,
        image_bytes=sum(part["bytes"] for part in dataset.parts) / dataset.rows,
    )


def _clustering(latents: Tensor, config: FitConfig, seed: int) -> float:
    """Seconds of a latent in clustering and in the comparison of the numbers of clusters."""
    noise = torch.Generator().manual_seed(seed)
    spread = latents[torch.randint(len(latents), (_POINTS,), generator=noise)]
    spread = spread + 0.1 * spread.std() * torch.randn(spread.shape, generator=noise)
    start = time.monotonic()
    fit_clusters(
        spread.numpy(),
        clusters=config.clusters,
        pca_components=min(config.pca_components, *spread.shape),
        restarts=config.restarts,
        seed=seed,
    )
    return (time.monotonic() - start) * (1 + len(config.candidates)) / _POINTS


def _coding(images: Tensor, config: DictionaryConfig, seed: int, method: str) -> float:
    """Seconds of an image in an iteration."""
    few = config.model_copy(update={"iterations": _ITERATIONS, "tolerance": 0.0})
    held = max(len(images) // 5, 1)
    start = time.monotonic()
    for _ in learn_dictionary(images[held:], few, seed=seed, name="estimate", holdout=images[:held], method=method):
        pass
    return (time.monotonic() - start) / (_ITERATIONS * len(images))
