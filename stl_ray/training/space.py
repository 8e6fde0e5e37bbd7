"""Fitting the stratified space: router, a sample of images for every dictionary, the dictionaries, the whole.

Source: Sun et al. 2019, sections 3.1 and 3.2. Training images only: no test image and no file name decides a cluster.
`fit_space` does it all on one machine; whoever distributes it runs the same steps side by side.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from stl_ray.config.sections import DictionaryConfig, FitConfig
from stl_ray.csc import Dictionary, learn_dictionary
from stl_ray.errors import TrainingError
from stl_ray.seeding import seed_of
from stl_ray.space import QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails
from stl_ray.training.autoencoder import AutoencoderEpoch, train_autoencoder
from stl_ray.training.batches import permutation

UNIVERSAL = "universal"

SMALLEST_CLUSTER = 10
"""Images of a cluster, at least: eight to learn its dictionary from and two to judge it by."""

Step = TypeVar("Step")
Result = TypeVar("Result")


def run_through(steps: Generator[Step, None, Result], report: Callable[[Step], object]) -> Result:
    """What a generator returns in the end; `report` sees every step before it."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        report(step)


def cluster_name(cluster: int) -> str:
    """The name of a cluster's dictionary."""
    return f"cluster_{cluster}"


def fit_router(
    images: Tensor, ids: Sequence[str], config: FitConfig, *, seed: int
) -> Generator[AutoencoderEpoch, None, Router]:
    """Train the autoencoder, then cluster its latents; yields after every epoch, returns the router.

    Args:
        images: (N, 3, 32, 32) float32 in [0, 1].
        ids: the N image ids, by which an image is later kept out of its own vote.
        config: autoencoder, PCA, clusters and k.
        seed: the run seed.

    Raises:
        TrainingError: if the autoencoder cannot be trained on the images, or a cluster is too small for a dictionary.
        TensorError: if there are too few different latents for the clusters, or too few images for k.
    """
    epoch = None
    for epoch in train_autoencoder(images, config.autoencoder, seed=seed):
        yield epoch
    if epoch is None:
        raise TrainingError("the autoencoder was not trained", expected="at least one epoch")
    autoencoder = epoch.autoencoder()
    clusters = fit_clusters(
        encode(autoencoder, images),
        clusters=config.clusters,
        pca_components=config.pca_components,
        restarts=config.restarts,
        seed=seed_of(seed, "clusters", "k-means++"),
    )
    # Here, not only where the dictionaries are sampled: a router that is returned is stored and used again.
    _require_sizes(clusters.sizes)
    return Router(autoencoder, clusters, hash_ids(ids), config.neighbours)


def _require_sizes(sizes: Sequence[int]) -> None:
    small = [cluster_name(cluster) for cluster, size in enumerate(sizes) if size < SMALLEST_CLUSTER]
    if small:
        raise TrainingError(
            "too few images for a dictionary; fit fewer clusters or give more images",
            item=", ".join(small),
            expected=f"at least {SMALLEST_CLUSTER} in each cluster",
            got=", ".join(map(str, sizes)),
        )


@dataclass(frozen=True)
class DictionarySample:
    """Which training images a dictionary is learned from, and which further ones judge it; indices, ascending."""

    name: str
    learn: list[int]
    holdout: list[int]


def sample_dictionaries(
    labels: Tensor, config: DictionaryConfig, *, clusters: int, seed: int
) -> list[DictionarySample]:
    """A random sample of all images for the universal dictionary, and one of every cluster for its own.

    A cluster too small for both shares gives a fifth of itself to the holdout.

    Args:
        labels: (N,) int64, the cluster of every training image.
        config: images and holdout per dictionary.
        clusters: M.
        seed: the run seed.

    Raises:
        TrainingError: if a cluster has fewer than ten images.
    """
    _require_sizes(torch.bincount(labels, minlength=clusters).tolist())
    members = {UNIVERSAL: torch.arange(len(labels))}
    members |= {cluster_name(cluster): (labels == cluster).nonzero()[:, 0] for cluster in range(clusters)}
    samples = []
    for name, indices in members.items():
        order = indices[permutation(len(indices), seed=seed, item=name, purpose="dictionary sample")].tolist()
        held = min(config.holdout, len(order) // 5)
        samples.append(DictionarySample(name, sorted(order[held : held + config.images]), sorted(order[:held])))
    return samples


def assemble(
    router: Router, dictionaries: Mapping[str, Dictionary], *, resolution: int, provenance: Mapping[str, Any]
) -> QuasiNaturalSpace:
    """The space of a router and the dictionaries by name.

    Args:
        router: with M clusters.
        dictionaries: `universal` and one for each cluster.
        resolution: side of the training images in pixels.
        provenance: JSON-able record of how it was made.
    """
    universal = dictionaries[UNIVERSAL]
    return QuasiNaturalSpace(
        universal,
        tuple(dictionaries[cluster_name(cluster)] for cluster in range(len(router.clusters.centroids))),
        universal.lmbda,
        router,
        resolution,
        provenance,
    )


def fit_space(images: Tensor, ids: Sequence[str], config: FitConfig, *, seed: int) -> QuasiNaturalSpace:
    """Fit a space to images in memory, on one machine, without Ray.

    Args:
        images: (N, 3, H, W) float32 RGB in [0, 1], square.
        ids: the N image ids.
        config: everything about the fit.
        seed: the run seed.

    Raises:
        TrainingError: if there are too few images.
        TensorError: if the images are of another shape or range, or too flat.
    """
    steps = fit_router(thumbnails(images), ids, config, seed=seed)
    router = run_through(steps, lambda epoch: None)
    samples = sample_dictionaries(router.clusters.labels, config.dictionary, clusters=config.clusters, seed=seed)
    dictionaries = {}
    for sample in samples:
        learning = learn_dictionary(
            images[sample.learn], config.dictionary, seed=seed, name=sample.name, holdout=images[sample.holdout]
        )
        *_, last = learning
        dictionaries[sample.name] = last.dictionary
    return assemble(router, dictionaries, resolution=images.shape[-1], provenance={"images": len(images)})
