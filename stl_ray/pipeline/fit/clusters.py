"""Strata: the router, the cluster of every training image, and images to show of each cluster."""

from typing import Any

import ray
import torch
from ray.exceptions import RayTaskError
from torch import Tensor

from stl_ray import __version__
from stl_ray.errors import StlRayError
from stl_ray.pipeline.fit.latents import load_latents
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.pipeline.fit.thumbnails import thumbnails_of
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.node_labels import placement
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.session import require_worker_slots
from stl_ray.space.pretrained import load_autoencoder
from stl_ray.space.storage import router_arrays, router_from, router_record
from stl_ray.store import Dataset, Storage, load_artifact, require_same, save_artifact
from stl_ray.training import Clustering, cluster_latents

KIND, VERSION = "strata", 1


def run(fit: SpaceFit, thumbnails: Dataset, latents: Dataset) -> tuple[Clustering, Tensor]:
    """Divide the latents into clusters, unless that was done.

    Args:
        fit: the space, with root and Ray resources.
        thumbnails: the run of thumbnails.
        latents: the run of latents.

    Returns:
        The clusters, and thumbnails (M, n, 3, side, side) uint8 of the images that are central to each.

    Raises:
        RunIdentityError: if there are clusters of another identity.
        TrainingError: if a cluster is too small for a dictionary.
        TensorError: if there are too few different latents.
    """
    experiment = fit.experiment
    storage = Storage.open(experiment.root).below(fit.strata)
    identity = {**fit.clustering, "latents": latents.digest, "stl_ray": __version__}
    if not storage.exists(f"{KIND}.json"):
        cpus = experiment.ray.cpus_per_actor
        if not experiment.ray.autoscaling:
            require_worker_slots(1, cpus=cpus, gpus=0, selectors=fit.experiment.ray.selectors, key="ray.cpus_per_actor")
        with JobProgress(fit.label("clusters"), latents.rows) as progress:
            find = ray.remote(num_cpus=cpus, **placement(fit.experiment.ray))(_find)
            task = find.remote(fit, thumbnails, latents, identity)
            try:
                ray.get(task)
            except RayTaskError as error:
                # The cause alone, without the worker's stack, where it is an error of ours.
                raise (error.cause if isinstance(error.cause, StlRayError) else error) from None
            progress.complete()
    artifact = load_artifact(storage.root, KIND, VERSION)
    require_same(artifact.meta["identity"], identity, storage.root)
    arrays = {name: torch.from_numpy(artifact.arrays[name].copy()) for name in ("labels", "central", "samples")}
    router = router_from(artifact.arrays, artifact.meta)
    return Clustering(router, arrays["labels"], arrays["central"], artifact.meta["candidates"]), arrays["samples"]


def _find(fit: SpaceFit, thumbnails: Dataset, latents: Dataset, identity: dict[str, Any]) -> None:
    bind(fit.experiment.ray.cpus_per_actor)
    storage = Storage.open(fit.experiment.root)
    autoencoder, _, _ = load_autoencoder(storage.below(fit.autoencoder).root)
    points, ids = load_latents(latents)
    clusters = cluster_latents(autoencoder, points, ids, fit.space, seed=fit.seed)
    central = _thumbnails(thumbnails, {ids[index] for index in clusters.central.flatten().tolist()})
    samples = torch.stack([torch.stack([central[ids[index]] for index in row]) for row in clusters.central.tolist()])
    tensors = {"labels": clusters.labels, "central": clusters.central, "samples": samples}
    arrays = {**router_arrays(clusters.router), **{name: tensor.numpy() for name, tensor in tensors.items()}}
    record = {**router_record(clusters.router), "candidates": clusters.candidates, "identity": identity}
    save_artifact(storage.below(fit.strata).root, KIND, VERSION, arrays, record)


def _thumbnails(dataset: Dataset, ids: set[str]) -> dict[str, Tensor]:
    """The thumbnails of these images by id, (3, side, side) uint8 each."""
    thumbnails: dict[str, Tensor] = {}
    for table in dataset.tables():
        here = [row for row, identifier in enumerate(table.column("id").to_pylist()) if identifier in ids]
        if here:
            rows = table.take(here)
            thumbnails |= dict(zip(rows.column("id").to_pylist(), thumbnails_of(rows), strict=True))
    return thumbnails
