"""The estimate of `fit`: one worker really does every step with some of the images."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from stl_ray.config import Experiment
from stl_ray.csc.learning import learn_dictionary
from stl_ray.csc.learning.online import BLOCKS_AT_ONCE
from stl_ray.pipeline.batches import by_size, pixels_of
from stl_ray.pipeline.estimate.sampling import sample
from stl_ray.pipeline.estimate.shards import shard_steps
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.pipeline.fit.dictionaries import dictionary_workers
from stl_ray.pipeline.fit.thumbnails import shard_job as thumbnail_job
from stl_ray.pipeline.inputs import dataset_of, with_solver
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
    """The steps of `fit`; needs a Ray that is connected.

    Raises:
        IncompleteRunError: if the training split was not ingested, or the sample cannot be made.
        ConfigError: if not even one worker fits.
    """
    config, root, storage = experiment.fit, experiment.root, Storage.open(experiment.root)
    dataset = dataset_of(root, Layout(root).ingested("train"))
    images, costs = dataset.rows, _measured(experiment, dataset)
    here = experiment.ray
    actors = dictionary_workers(here)

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
        *shard_steps(thumbnail_job(experiment), experiment),
        step(Layout.autoencoder, "autoencoder.json", images, costs.epoch * epochs, weights, config.autoencoder.workers),
        step(Layout.latents, MANIFEST, images, costs.latent, latents, actors),
        step(Layout.strata, "strata.json", images, costs.point, pca, 1),
        # Copies of what is stored.
        step(Layout.samples, MANIFEST, drawn, 0.0, drawn * costs.image_bytes, actors),
        _dictionaries(experiment, names, costs.coded, actors),
    ]


def _dictionaries(experiment: Experiment, names: list[str], cost: float, workers: int) -> StepEstimate:
    """All dictionaries, in iterations; most of them stop before the last."""
    layout, config, storage = Layout(experiment.root), experiment.fit.dictionary, Storage.open(experiment.root)
    left = [name for name in names if not storage.exists(f"{layout.dictionary(name)}/dictionary.json")]
    seconds = cost * _coded(experiment) * config.iterations * len(left)
    size = len(names) * config.filters * 3 * config.size**2 * _FLOAT
    total, rest = (config.iterations * len(some) for some in (names, left))
    return StepEstimate("fit/dictionaries", "iterations", total, rest, size, seconds, workers)


def _coded(experiment: Experiment) -> int:
    """Images that are coded in an iteration, the holdout included."""
    config = experiment.fit.dictionary
    return config.holdout + (
        min(config.images, BLOCKS_AT_ONCE * config.block) if config.method == "online" else config.images
    )


def _measured(experiment: Experiment, dataset: Dataset) -> _Costs:
    config = experiment.ray
    cpus, gpus = config.cpus_per_actor, config.gpus_per_actor
    return sample(_measure, with_solver(experiment), dataset, resources=config, cpus=cpus, gpus=gpus, item=Layout.fit)


def _measure(experiment: Experiment, dataset: Dataset) -> _Costs:
    bind(experiment.ray.cpus_per_actor)
    config, device = experiment.fit, device_of(experiment.ray)
    table = dataset.head(_SAMPLE)
    # The images of the most frequent size; the others cost as much.
    _, images = max(by_size(pixels_of(table), device), key=lambda batch: len(batch[0]))
    small = thumbnails(images.cpu(), config.autoencoder.side)
    small = small.repeat(-(-_SAMPLE // len(small)), 1, 1, 1)[:_SAMPLE]
    autoencoder = new_autoencoder(config.autoencoder.side, seed=experiment.seed).to(device)
    once = config.autoencoder.model_copy(update={"epochs": 1})
    (epoch,) = train_autoencoder(autoencoder, small, once, seed=experiment.seed)
    start = time.monotonic()
    latents = encode(autoencoder, small.to(device)).cpu()
    latent = (time.monotonic() - start) / _SAMPLE
    return _Costs(
        epoch=1 / epoch.images_per_second,
        latent=latent,
        point=_clustering(latents, experiment),
        coded=_coding(images, experiment),
        weights=sum(tensor.nbytes for tensor in autoencoder.state_dict().values()),
        latent_bytes=latents.shape[1] * _FLOAT + _IDS,
        image_bytes=sum(part["bytes"] for part in dataset.parts) / dataset.rows,
    )


def _clustering(latents: Tensor, experiment: Experiment) -> float:
    """Seconds of a latent in clustering and in the comparison of the numbers of clusters."""
    config = experiment.fit
    noise = torch.Generator().manual_seed(experiment.seed)
    spread = latents[torch.randint(len(latents), (_POINTS,), generator=noise)]
    spread = spread + 0.1 * spread.std() * torch.randn(spread.shape, generator=noise)
    start = time.monotonic()
    fit_clusters(
        spread.numpy(),
        clusters=config.clusters,
        pca_components=min(config.pca_components, *spread.shape),
        restarts=config.restarts,
        seed=experiment.seed,
    )
    return (time.monotonic() - start) * (1 + len(config.candidates)) / _POINTS


def _coding(images: Tensor, experiment: Experiment) -> float:
    """Seconds of an image in an iteration."""
    few = experiment.fit.dictionary.model_copy(update={"iterations": _ITERATIONS, "tolerance": 0.0})
    held = max(len(images) // 5, 1)
    start = time.monotonic()
    for _ in learn_dictionary(
        images[held:], few, seed=experiment.seed, name="estimate", holdout=images[:held], method=experiment.stl.method
    ):
        pass
    return (time.monotonic() - start) / (_ITERATIONS * len(images))
