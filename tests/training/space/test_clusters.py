import numpy as np
import pytest
import torch

from stl_ray.config.spaces import FitConfig
from stl_ray.errors import TensorError, TrainingError
from stl_ray.space import hash_ids
from stl_ray.training import cluster_latents
from stl_ray.training.space import clusters as module
from stl_ray.training.space.autoencoder import new_autoencoder
from stl_ray.training.space.clusters import SHOWN, require_sizes

SIZES = (12, 30, 18)
IDS = [f"latent/{number:02d}" for number in range(sum(SIZES))]
CONFIG = FitConfig(clusters=3, candidates=(2, 5), neighbours=5, restarts=3)


def latents_of(*sizes: int, spread: float = 0.1) -> np.ndarray:
    """(N, 512) float32: one ball of points for each size, mixed."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((len(sizes), 512))
    points = np.repeat(centres, sizes, axis=0) + spread * generator.standard_normal((sum(sizes), 512))
    return points[generator.permutation(len(points))].astype(np.float32)


def found(latents, seed=0, ids=None, **keys):
    network = new_autoencoder(32, seed=0).eval()
    ids = IDS[: len(latents)] if ids is None else ids
    return cluster_latents(network, latents, ids, CONFIG.model_copy(update=keys), seed=seed)


@pytest.fixture(scope="module")
def latents() -> np.ndarray:
    return latents_of(*SIZES)


@pytest.fixture(scope="module")
def whole(latents):
    return found(latents)


def test_identity_every_ball_is_a_cluster(whole, latents):
    clusters = whole.router.clusters
    assert sorted(clusters.sizes) == sorted(SIZES)
    assert torch.bincount(whole.labels).tolist() == list(clusters.sizes)
    # All are references by default, with the label that the whole has.
    assert torch.equal(clusters.labels, whole.labels)
    assert torch.equal(whole.router.reference_ids, hash_ids(IDS))
    assert torch.equal(whole.router.nearest_centroid(clusters.latents), whole.labels)
    assert torch.equal(whole.router.vote(clusters.latents, exclude=IDS), whole.labels)
    assert whole.router.neighbours == 5


def test_invariant_references_are_a_subset_and_nothing_else_changes(whole, latents):
    some = found(latents, references=20)
    kept, every = some.router.clusters, whole.router.clusters
    place = {int(number): row for row, number in enumerate(whole.router.reference_ids)}
    rows = [place[int(number)] for number in some.router.reference_ids]
    assert len(rows) == len(set(rows)) == 20
    assert torch.equal(kept.latents, every.latents[rows])
    assert torch.equal(kept.labels, every.labels[rows])
    assert kept.sizes == every.sizes and torch.equal(some.labels, whole.labels)
    assert torch.equal(some.central, whole.central) and some.candidates == whole.candidates
    assert not torch.equal(found(latents, references=20, seed=1).router.reference_ids, some.router.reference_ids)


@pytest.mark.parametrize("sizes", [SIZES, (SHOWN, 15, 25), (20,)])
def test_identity_central_images_are_the_nearest_of_their_cluster(sizes, monkeypatch):
    monkeypatch.setattr(module, "SMALLEST_CLUSTER", 2)
    latents = latents_of(*sizes)
    result = found(latents, clusters=len(sizes))
    clusters = result.router.clusters
    assert result.central.shape == (len(sizes), SHOWN)
    distances = (clusters.latents[:, None].double() - clusters.centroids.double()).square().sum(dim=2).numpy()
    for cluster, row in enumerate(result.central.tolist()):
        members = (result.labels == cluster).nonzero()[:, 0].tolist()
        assert row == sorted(members, key=lambda image: distances[image, cluster])[:SHOWN]


def test_identity_as_many_central_images_as_the_smallest_cluster_has(monkeypatch):
    monkeypatch.setattr(module, "SMALLEST_CLUSTER", 2)
    assert found(latents_of(3, 9, 20)).central.shape == (3, 3)
    assert found(latents_of(5), clusters=1, neighbours=2).central.shape == (1, 5)


def test_identity_candidates_are_compared_with_the_clusters_that_were_chosen(whole, latents):
    assert [row["clusters"] for row in whole.candidates] == [2, 3, 5]
    best = max(whole.candidates, key=lambda row: row["silhouette"])
    assert best["clusters"] == 3 and sorted(best["sizes"]) == sorted(SIZES)
    inertia = [row["inertia"] for row in whole.candidates]
    assert inertia == sorted(inertia, reverse=True)
    assert [row["clusters"] for row in found(latents, candidates=(33, 2)).candidates] == [2, 3, 33]
    assert [row["clusters"] for row in found(latents, clusters=1).candidates] == [2, 5]
    assert [row["clusters"] for row in found(latents, candidates=(2, 61)).candidates] == [2, 3]
    assert found(latents, candidates=()).candidates == []


def test_invariant_candidates_of_many_images_are_compared_on_a_sample(whole, latents, monkeypatch):
    monkeypatch.setattr(module, "DIAGNOSED", 25)
    sampled = found(latents)
    assert [sum(row["sizes"]) for row in sampled.candidates] == [25, 25, 25]
    assert torch.equal(sampled.labels, whole.labels) and torch.equal(sampled.central, whole.central)


def test_invariant_the_same_seed_finds_the_same_strata(whole, latents):
    again = found(latents)
    for one, other in ((again.labels, whole.labels), (again.central, whole.central)):
        assert torch.equal(one, other)
    for name in ("mean", "components", "centroids", "latents"):
        assert torch.equal(getattr(again.router.clusters, name), getattr(whole.router.clusters, name))
    assert again.candidates == whole.candidates


def test_refuses_a_small_cluster_by_name():
    with pytest.raises(TrainingError, match="too few images for a dictionary; fit fewer clusters") as caught:
        found(latents_of(9, 30, 21))
    sizes = [int(size) for size in caught.value.got.split(", ")]
    assert sorted(sizes) == [9, 21, 30]
    assert caught.value.item == f"cluster_{sizes.index(9)}"


def test_refuses_sizes_under_ten():
    require_sizes([10, 10])
    with pytest.raises(TrainingError, match=r"cluster_1, cluster_2: .*at least 10 in each cluster; got 10, 9, 0"):
        require_sizes([10, 9, 0])


def test_refuses_latents_that_cannot_be_clustered(latents):
    with pytest.raises(TensorError, match="too few different latents; expected at least 3; got 1"):
        found(np.repeat(latents[:1], 60, axis=0))
    with pytest.raises(TensorError, match="one id for each reference latent"):
        found(latents, ids=IDS[:-1])
    with pytest.raises(TensorError, match="k out of range; expected 1 to 4; got 5"):
        found(latents, references=5)
    latents = latents.copy()
    latents[3, 7] = np.nan
    with pytest.raises(TensorError, match="latents that cannot be clustered"):
        found(latents)
