"""From latents to clusters: the router, the cluster of every training image, and figures by which to choose M.

Source: Sun et al. 2019, section 3.2. Training images only: no test image and no file name decides a cluster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.config.spaces import FitConfig
from stl_ray.errors import TrainingError
from stl_ray.seeding import seed_of
from stl_ray.space import Autoencoder, ClusterModel, Router, diagnose, fit_clusters, hash_ids, with_references
from stl_ray.training.data.batches import permutation

SMALLEST_CLUSTER = 10
"""Images of a cluster, at least: eight to learn its dictionary from and two to judge it by."""

SHOWN = 9
"""Images of each cluster that the space keeps to be looked at, at most."""

DIAGNOSED = 20_000
"""Latents on which numbers of clusters are compared, at most: a random sample of more."""

_ITEM = "clusters"


@dataclass(frozen=True)
class Clustering:
    """The clusters of the training images.

    Attributes:
        router: assigns images to clusters.
        labels: (N,) int64, the cluster of every training image.
        central: (M, n) int64, the training images nearest to each centroid, the nearest first.
        candidates: rows of `stl_ray.space.diagnose`, ascending by the number of clusters.
    """

    router: Router
    labels: Tensor
    central: Tensor
    candidates: list[dict[str, Any]]


def cluster_latents(
    autoencoder: Autoencoder, latents: NDArray[np.float32], ids: Sequence[str], config: FitConfig, *, seed: int
) -> Clustering:
    """Cluster the latents (N, d) of all training images.

    Args:
        autoencoder: that made them; in eval mode.
        latents: (N, d), finite.
        ids: the N image ids, by which an image is later kept out of its own vote.
        config: clusters, PCA, references and k.
        seed: the run seed.

    Raises:
        TensorError: there are too few different latents for the clusters, or too few images for k.
        TrainingError: a cluster is too small for a dictionary.
    """
    model = fit_clusters(
        latents,
        clusters=config.clusters,
        pca_components=config.pca_components,
        restarts=config.restarts,
        seed=seed_of(seed, _ITEM, "k-means++"),
    )
    require_sizes(model.sizes)
    hashes = hash_ids(ids)
    references = len(ids) if config.references is None else config.references
    kept, kept_ids = with_references(model, hashes, references, seed_of(seed, _ITEM, "references"))
    return Clustering(
        router=Router(autoencoder, kept, kept_ids, config.neighbours),
        labels=model.labels,
        central=_central(model),
        candidates=_compare(model.latents, config, seed),
    )


def cluster_name(cluster: int) -> str:
    """The name of a cluster's dictionary."""
    return f"cluster_{cluster}"


def require_sizes(sizes: Sequence[int]) -> None:
    """Refuse clusters from which no dictionary can be learned.

    Raises:
        TrainingError: names the clusters that are too small.
    """
    small = [cluster_name(cluster) for cluster, size in enumerate(sizes) if size < SMALLEST_CLUSTER]
    if small:
        raise TrainingError(
            "too few images for a dictionary; fit fewer clusters or give more images",
            item=", ".join(small),
            expected=f"at least {SMALLEST_CLUSTER} in each cluster",
            got=", ".join(map(str, sizes)),
        )


def _central(model: ClusterModel) -> Tensor:
    """Indices (M, n) of the latents nearest to each centroid, of its own cluster."""
    count = min((SHOWN, *model.sizes))
    rows = []
    for cluster, centroid in enumerate(model.centroids):
        members = (model.labels == cluster).nonzero()[:, 0]
        distances = (model.latents[members] - centroid).square().sum(dim=1)
        rows.append(members[distances.argsort(stable=True)[:count]])
    return torch.stack(rows)


def _compare(latents: Tensor, config: FitConfig, seed: int) -> list[dict[str, Any]]:
    if not config.candidates:
        return []
    order = permutation(len(latents), seed=seed, item=_ITEM, purpose="comparison")
    sample = latents[order[:DIAGNOSED].sort().values]
    candidates = sorted({*config.candidates, *({config.clusters} - {1})})
    return diagnose(sample, candidates, restarts=config.restarts, seed=seed_of(seed, _ITEM, "comparison"))
