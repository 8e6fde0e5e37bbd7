"""Clusters of natural images: PCA of the autoencoder's latents, then k-means++.

Source: Sun et al. 2019, section 3.2 (k-means++ on the latents); PCA first and the restarts are the authors' script's.
Every function is deterministic for one seed on one machine. Matrices are float32 on the CPU, tensors or NumPy arrays.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stl_ray.errors import TensorError
from stl_ray.tiling import in_tiles

Matrix = Tensor | npt.NDArray[np.float32]

PCA_POINTS = 200_000
"""Latents that PCA is computed from, at most: a random sample of more."""

KMEANS_POINTS = 2_000_000
"""Points up to which every step of k-means sees all of them; of more, a batch of BATCH."""

BATCH = 2**16

SILHOUETTE_POINTS = 5_000
"""Points that the silhouette is computed from, at most: it needs the distances between all of them."""

TILE = 16
"""Latents that are reduced in one product."""


@dataclass(frozen=True)
class ClusterModel:
    """PCA, centroids, and reference latents of known cluster; tensors float32.

    Attributes:
        mean: (d,) of the autoencoder's latents.
        components: (p, d), orthonormal rows.
        centroids: (M, p), in PCA coordinates.
        latents: (R, p), the reference latents in PCA coordinates.
        labels: (R,) int64, the cluster of every reference latent.
        sizes: training images of each of the M clusters, whether or not they are references.

    Raises:
        TensorError: there is not one size for each centroid.
    """

    mean: Tensor
    components: Tensor
    centroids: Tensor
    latents: Tensor
    labels: Tensor
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.centroids):
            raise TensorError("one size for each cluster", expected=len(self.centroids), got=self.sizes)

    def to(self, device: torch.device | str) -> "ClusterModel":
        """The same model on another device."""
        moved: dict[str, Any] = {name: v.to(device) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def fit_clusters(latents: Matrix, *, clusters: int, pca_components: int, restarts: int, seed: int) -> ClusterModel:
    """Reduce latents (N, d) to `pca_components` dimensions at most and cluster all of them.

    Beyond KMEANS_POINTS latents by mini-batches (Sculley 2010).

    Args:
        latents: (N, d), finite, of the training images.
        clusters: M.
        pca_components: as for `fit_pca`.
        restarts: initialisations by k-means++; the best is kept.
        seed: of the initial centroids and of samples; any non-negative integer.

    Raises:
        TensorError: not finite, or fewer than two or than `clusters` different latents.
    """
    points = _finite(latents)
    _require_distinct(points, max(2, clusters))
    mean, components = fit_pca(points, components=pca_components, seed=seed)
    # Cluster what is stored, so that labels and centroids agree with the latents to the last bit.
    reduced = reduce(points, mean, components)
    centroids, labels = _kmeans(reduced.numpy(), clusters, restarts, seed)
    sizes = np.bincount(labels, minlength=clusters)
    if not sizes.all():
        raise TensorError("too few different latents after PCA", expected=f"{clusters} clusters", got=sizes.tolist())
    return ClusterModel(
        mean=mean,
        components=components,
        centroids=torch.from_numpy(centroids),
        latents=reduced,
        labels=torch.from_numpy(labels),
        sizes=tuple(sizes.tolist()),
    )


def fit_pca(latents: Matrix, *, components: int, seed: int) -> tuple[Tensor, Tensor]:
    """The mean (d,) and the principal components (p, d) of latents (N, d), p = min(components, N - 1, d).

    Of more than PCA_POINTS latents, those of a random sample of that many.

    Args:
        latents: (N >= 2, d), finite.
        components: p, at most.
        seed: of the sample and of the randomised solver.

    Raises:
        TensorError: the latents are not finite, or not a matrix.
    """
    # Imported here and below: only fitting needs it, and every process that projects would wait for it.
    from sklearn.decomposition import PCA

    points = _finite(_sample(np.asarray(latents), PCA_POINTS, seed)).astype(np.float64)
    pca = PCA(min(components, len(points) - 1, points.shape[1]), random_state=seed % 2**32, copy=False).fit(points)
    return torch.from_numpy(pca.mean_.astype(np.float32)), torch.from_numpy(pca.components_.astype(np.float32))


def reduce(latents: Matrix, mean: Tensor, components: Tensor) -> Tensor:
    """The PCA coordinates (N, p) float32 of latents (N, d) on the mean's device: the same bits alone and among others."""
    centre, axes = mean.double(), components.T.double()
    points = torch.as_tensor(latents)
    return in_tiles(lambda tile: (((tile.double() - centre) @ axes).float(),), points, size=TILE)[0]


def with_references(model: ClusterModel, ids: Tensor, count: int, seed: int) -> tuple[ClusterModel, Tensor]:
    """The model with a random sample of `count` of its reference latents, in their order, and their ids.

    Args:
        model: with reference latents (R, p).
        ids: (R,) int64 by `hash_ids`.
        count: references to keep; all where there are no more.
        seed: of the sample.

    Raises:
        TensorError: there is not one id for each reference latent.
    """
    if ids.shape != model.labels.shape:
        raise TensorError("one id for each reference latent", expected=tuple(model.labels.shape), got=tuple(ids.shape))
    kept = torch.from_numpy(_sample(np.arange(len(ids)), count, seed))
    return replace(model, latents=model.latents[kept], labels=model.labels[kept]), ids[kept]


def diagnose(reduced: Matrix, candidates: Iterable[int], *, restarts: int, seed: int) -> list[dict[str, Any]]:
    """Figures of the clustering of points (N, p) in PCA coordinates, for every number of clusters in `candidates`.

    Args:
        reduced: (N, p), finite.
        candidates: numbers of clusters, at least 2; those with more clusters than there are distinct points are left out.
        restarts: as for `fit_clusters`.
        seed: likewise, and of the silhouette's sample.

    Returns:
        JSON-able rows of `clusters`; `inertia`, the mean squared distance of a point to the centroid of its cluster;
        `silhouette`, its mean over a random sample of SILHOUETTE_POINTS points (Rousseeuw 1987; 0 where the sample has
        one cluster, or no two points of one); `sizes`.

    Raises:
        TensorError: the points are not finite, or not a matrix.
    """
    from sklearn.metrics import silhouette_score

    points = _finite(reduced)
    candidates = tuple(candidates)
    distinct = _distinct(points, max(candidates, default=0))
    sample = _sample(np.arange(len(points)), SILHOUETTE_POINTS, seed)
    rows: list[dict[str, Any]] = []
    for clusters in candidates:
        if clusters > distinct:
            continue
        centroids, labels = _kmeans(points, clusters, restarts, seed)
        distances = sum(
            float(((points[labels == cluster] - centroid).astype(np.float64) ** 2).sum())
            for cluster, centroid in enumerate(centroids)
        )
        shown = len(np.unique(labels[sample]))
        silhouette = float(silhouette_score(points[sample], labels[sample])) if 1 < shown < len(sample) else 0.0
        sizes = np.bincount(labels, minlength=clusters).tolist()
        rows.append(
            {"clusters": clusters, "inertia": distances / len(points), "silhouette": silhouette, "sizes": sizes}
        )
    return rows


def _kmeans(
    points: npt.NDArray[np.float32], clusters: int, restarts: int, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Centroids (M, p) and labels (N,)."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    options: dict[str, Any] = {"init": "k-means++", "n_init": restarts, "random_state": seed % 2**32}
    if len(points) <= KMEANS_POINTS:
        kmeans = KMeans(clusters, **options)
    else:
        kmeans = MiniBatchKMeans(clusters, batch_size=BATCH, **options)
    # Several threads add up the centroids in the order in which they finish.
    with threadpool_limits(1, user_api="openmp"):
        kmeans.fit(points)
    return kmeans.cluster_centers_.astype(np.float32), kmeans.labels_.astype(np.int64)


def _finite(latents: Matrix) -> npt.NDArray[np.float32]:
    points = np.asarray(latents, dtype=np.float32)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise TensorError("latents that cannot be clustered", expected="a finite (N, d) matrix", got=points.shape)
    return points


def _sample(rows: npt.NDArray[Any], count: int, seed: int) -> npt.NDArray[Any]:
    """`count` of the rows at random, in their order; all where there are no more."""
    if len(rows) <= count:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), count, replace=False))]


def _require_distinct(points: npt.NDArray[np.float32], enough: int) -> None:
    distinct = _distinct(points, enough)
    if distinct < enough:
        raise TensorError("too few different latents", expected=f"at least {enough}", got=distinct)


def _distinct(points: npt.NDArray[np.float32], enough: int) -> int:
    """The number of different points, counted no further than `enough`."""
    distinct = points[:0]
    for start in range(0, len(points), 1024):
        distinct = np.unique(np.concatenate([distinct, points[start : start + 1024]]), axis=0)
        if len(distinct) >= enough:
            break
    return min(len(distinct), enough)
