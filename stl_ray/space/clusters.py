"""Strata of natural images: PCA of the autoencoder's latents, then k-means++.

Source: Sun et al. 2019, section 3.2 (k-means++ on the latents); PCA first and the restarts are the authors' script's.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from stl_ray.errors import TensorError


@dataclass(frozen=True)
class ClusterModel:
    """PCA, centroids, and the latents that they were found on, all float32.

    Attributes:
        mean: (d,) of the autoencoder's latents.
        components: (p, d), orthonormal rows.
        centroids: (M, p), in PCA coordinates.
        latents: (N, p), the reference latents in PCA coordinates.
        labels: (N,) int64, the cluster of every reference latent.
    """

    mean: Tensor
    components: Tensor
    centroids: Tensor
    latents: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> "ClusterModel":
        """The same model on another device."""
        return ClusterModel(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def sizes(self) -> list[int]:
        """Reference latents of each cluster."""
        return torch.bincount(self.labels, minlength=len(self.centroids)).tolist()


def fit_clusters(latents: Tensor, *, clusters: int, pca_components: int, restarts: int, seed: int) -> ClusterModel:
    """Reduce latents (N, d) to min(pca_components, N - 1, d) dimensions and cluster them.

    Deterministic for one seed on one machine.

    Args:
        latents: (N, d), finite, of the training images.
        clusters: M.
        pca_components: PCA dimensions at most.
        restarts: k-means++ restarts; the best is kept.
        seed: of the initial centroids and of the randomised PCA; any non-negative integer.

    Raises:
        TensorError: not finite, or fewer than two or than `clusters` distinct latents.
    """
    # Imported here: only fitting needs it, and every process that projects would wait for it.
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    points = latents.detach().cpu().numpy().astype(np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise TensorError("latents that cannot be clustered", expected="a finite (N, d) matrix", got=points.shape)
    distinct = len(np.unique(points, axis=0))
    if distinct < max(2, clusters):
        raise TensorError("too few different latents", expected=f"at least {max(2, clusters)}", got=distinct)
    state = seed % 2**32
    pca = PCA(min(pca_components, len(points) - 1, points.shape[1]), random_state=state).fit(points)
    # Cluster what is stored, so that labels and centroids agree with the latents to the last bit.
    reduced = pca.transform(points).astype(np.float32)
    kmeans = KMeans(clusters, init="k-means++", n_init=restarts, random_state=state).fit(reduced)
    return ClusterModel(
        mean=torch.from_numpy(pca.mean_.astype(np.float32)),
        components=torch.from_numpy(pca.components_.astype(np.float32)),
        centroids=torch.from_numpy(kmeans.cluster_centers_.astype(np.float32)),
        latents=torch.from_numpy(reduced),
        labels=torch.from_numpy(kmeans.labels_.astype(np.int64)),
    )
