import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from torch import Tensor

from stl_ray.errors import TensorError
from stl_ray.space import ClusterModel, clusters, diagnose, fit_clusters, hash_ids, with_references
from stl_ray.space.clusters import fit_pca, reduce


def blobs() -> tuple[Tensor, Tensor]:
    """Sixty points around three far centres in 20 dimensions, and their centre's index."""
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn((3, 20), generator=generator)
    labels = torch.arange(60) % 3
    return centres[labels] + torch.randn((60, 20), generator=generator), labels


def fit(latents: Tensor | np.ndarray, clusters: int = 3, pca_components: int = 6, seed: int = 0) -> ClusterModel:
    return fit_clusters(latents, clusters=clusters, pca_components=pca_components, restarts=4, seed=seed)


def assert_same(first: ClusterModel, second: ClusterModel) -> None:
    for name in ("mean", "components", "centroids", "latents", "labels"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert first.sizes == second.sizes


def test_agrees_with_the_blobs_that_were_drawn() -> None:
    points, truth = blobs()
    model = fit(points)
    assert model.sizes == (20, 20, 20)
    for cluster in range(3):
        assert len(truth[model.labels == cluster].unique()) == 1


def test_certificate_every_latent_is_nearest_to_its_own_centroid() -> None:
    model = fit(blobs()[0], clusters=5)
    distances = torch.cdist(model.latents.double(), model.centroids.double())
    assert torch.equal(distances.argmin(1), model.labels)
    means = torch.stack([model.latents[model.labels == cluster].mean(0) for cluster in range(5)])
    torch.testing.assert_close(model.centroids, means, rtol=1e-3, atol=1e-3)


def test_identity_latents_are_the_projected_points() -> None:
    points, _ = blobs()
    model = fit(points)
    torch.testing.assert_close((points - model.mean) @ model.components.T, model.latents, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.components @ model.components.T, torch.eye(6), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("images", "asked", "kept"), [(60, 128, 20), (12, 128, 11), (60, 4, 4)])
def test_invariant_pca_dimensions_are_limited(images: int, asked: int, kept: int) -> None:
    model = fit(blobs()[0][:images], pca_components=asked)
    assert model.latents.shape == (images, kept)
    assert model.components.shape == (kept, 20)


def test_invariant_same_seed_same_model() -> None:
    points, _ = blobs()
    first, second = fit(points, clusters=5, seed=2**62), fit(points, clusters=5, seed=2**62)
    assert_same(first, second)


@pytest.mark.skipif(sys.platform != "linux", reason="the OpenMP runtime reads its threads elsewhere")
def test_invariant_clusters_do_not_depend_on_the_order_of_threads() -> None:
    program = """
import hashlib, sklearn.cluster, numpy as np  # scikit-learn's OpenMP before that of torch
from stl_ray.space.clusters import _kmeans
points = np.random.default_rng(0).normal(size=(30000, 16)).astype(np.float32)
for _ in range(8):
    print(hashlib.sha256(b"".join(part.tobytes() for part in _kmeans(points, 8, 1, 0))).hexdigest())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "8"}
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True).stdout
    assert len(printed.split()) == 8
    assert len(set(printed.split())) == 1


def test_invariant_arrays_are_as_good_as_tensors() -> None:
    points, _ = blobs()
    assert_same(fit(points), fit(points.numpy()))


def test_invariant_a_latent_is_reduced_to_the_same_bits_alone_and_among_others() -> None:
    half = torch.randn((37, 256), generator=torch.Generator().manual_seed(0))
    # Their sums are zero but for rounding, so that they are all rounding.
    points, mean, components = torch.cat([half, -half.flip(1)], 1), torch.zeros(512), torch.full((11, 512), 0.1)
    together = reduce(points, mean, components)
    assert (together != 0).any()
    assert torch.equal(together, torch.cat([reduce(point[None], mean, components) for point in points]))
    assert torch.equal(together[5:30], reduce(points[5:30], mean, components))
    assert torch.equal(together, reduce(points.numpy(), mean, components))


def test_invariant_equal_latents_stay_equal() -> None:
    points = blobs()[0][:7].repeat(40, 1)
    model = fit(points, clusters=7, pca_components=20)
    assert len(torch.unique(model.latents, dim=0)) == 7
    assert model.sizes == (40,) * 7


def test_agrees_with_pca_of_the_sample_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = blobs()
    everything = fit_pca(points, components=3, seed=0)
    monkeypatch.setattr(clusters, "PCA_POINTS", 40)
    mean, components = fit_pca(points, components=3, seed=0)
    means = [fit_pca(points, components=3, seed=seed)[0] for seed in (0, 1)]
    assert torch.equal(mean, means[0])
    assert not torch.equal(mean, means[1])
    assert not torch.equal(mean, everything[0])
    drawn = np.sort(np.random.default_rng(0).choice(60, 40, replace=False))
    expected = PCA(3).fit(points[drawn].double().numpy())
    torch.testing.assert_close(mean, torch.from_numpy(expected.mean_).float())
    torch.testing.assert_close(
        components.abs(), torch.from_numpy(expected.components_).float().abs(), rtol=0, atol=1e-5
    )


def test_agrees_with_the_blobs_by_mini_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    points, truth = blobs()
    everything = fit(points)
    monkeypatch.setattr(clusters, "KMEANS_POINTS", 59)
    model = fit(points)
    assert not torch.equal(model.centroids, everything.centroids)
    assert model.sizes == (20, 20, 20)
    assert all(len(truth[model.labels == cluster].unique()) == 1 for cluster in range(3))
    distances = torch.cdist(model.latents.double(), model.centroids.double())
    assert torch.equal(distances.argmin(1), model.labels)
    assert_same(model, fit(points))


def test_identity_references_are_a_sample_with_their_labels_and_ids() -> None:
    points, _ = blobs()
    model, ids = fit(points), hash_ids([f"train/{index}" for index in range(60)])
    fewer, kept = with_references(model, ids, 25, seed=3)
    rows = torch.stack([(ids == own).nonzero()[0, 0] for own in kept])
    assert len(kept) == 25
    assert (rows.diff() > 0).all()
    assert torch.equal(fewer.latents, model.latents[rows])
    assert torch.equal(fewer.labels, model.labels[rows])
    assert fewer.sizes == model.sizes
    assert torch.equal(with_references(model, ids, 25, seed=3)[1], kept)
    assert not torch.equal(with_references(model, ids, 25, seed=4)[1], kept)
    everything, all_ids = with_references(model, ids, 60, seed=3)
    assert torch.equal(all_ids, ids)
    assert_same(everything, model)
    with pytest.raises(TensorError, match="one id"):
        with_references(model, ids[1:], 25, seed=3)


def test_agrees_with_inertia_and_silhouette_by_hand() -> None:
    model = fit(blobs()[0])
    two, three, five = rows = diagnose(model.latents, (2, 3, 5), restarts=4, seed=0)
    assert [row["clusters"] for row in rows] == [2, 3, 5]
    squares = (model.latents - model.centroids[model.labels]).double().square().sum(1)
    assert three["inertia"] == pytest.approx(float(squares.mean()), rel=1e-5)
    expected = silhouette_score(model.latents.numpy(), model.labels.numpy())
    assert three["silhouette"] == pytest.approx(expected, abs=1e-6)
    assert three["sizes"] == [20, 20, 20]
    assert two["inertia"] > three["inertia"] > five["inertia"]
    assert three["silhouette"] > max(two["silhouette"], five["silhouette"])
    assert json.loads(json.dumps(rows)) == rows
    assert diagnose(model.latents.numpy(), (2, 3, 5), restarts=4, seed=0) == rows


def test_identity_the_silhouette_is_of_a_seeded_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    points = fit(blobs()[0]).latents
    monkeypatch.setattr(clusters, "SILHOUETTE_POINTS", 20)
    (row,) = diagnose(points, (3,), restarts=4, seed=0)
    assert row == diagnose(points, (3,), restarts=4, seed=0)[0]
    drawn = np.sort(np.random.default_rng(0).choice(60, 20, replace=False))
    expected = silhouette_score(points.numpy()[drawn], fit(blobs()[0]).labels.numpy()[drawn])
    assert row["silhouette"] == pytest.approx(expected, abs=1e-6)
    assert sum(row["sizes"]) == 60


def test_identity_candidates_that_the_points_do_not_allow_are_left_out() -> None:
    points = blobs()[0][:5].repeat(30, 1)
    rows = diagnose(points, (2, 5, 6, 20), restarts=2, seed=0)
    assert [row["clusters"] for row in rows] == [2, 5]
    assert rows[1]["inertia"] == pytest.approx(0, abs=1e-9)
    assert diagnose(points[:1], (2,), restarts=2, seed=0) == []
    assert diagnose(points, (), restarts=2, seed=0) == []
    # Each point its own cluster: no silhouette, which counts as none.
    assert diagnose(points[:5], (5,), restarts=2, seed=0)[0]["silhouette"] == 0


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_refuses_latents_that_cannot_be_clustered() -> None:
    points, _ = blobs()
    for few in (points[:2], points[:1].repeat(10, 1), points[:2].repeat(1500, 1)):
        with pytest.raises(TensorError, match="too few"):
            fit(few)
    # Different, but not along the components that are kept.
    apart = torch.zeros(8, 20)
    apart[:4, 0], apart[4:, 0] = 1e6, -1e6
    apart[:, 1] = torch.arange(8) * 1e-3
    with pytest.raises(TensorError, match="too few"):
        fit(apart, pca_components=1)
    one_bad = points.clone()
    one_bad[7, 3] = torch.inf
    for bad in (points * torch.nan, one_bad, points[0]):
        with pytest.raises(TensorError, match="finite"):
            fit(bad)
        with pytest.raises(TensorError, match="finite"):
            fit_pca(bad, components=2, seed=0)
        with pytest.raises(TensorError, match="finite"):
            diagnose(bad, (2,), restarts=1, seed=0)


def test_refuses_sizes_of_other_clusters() -> None:
    model = fit(blobs()[0])
    with pytest.raises(TensorError, match="one size"):
        ClusterModel(model.mean, model.components, model.centroids, model.latents, model.labels, (30, 30))
