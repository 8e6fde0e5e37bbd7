from dataclasses import replace

import pytest
import torch

from stl_ray.csc import Dictionary
from stl_ray.defenses import make_defense
from stl_ray.errors import ConfigError
from stl_ray.images import quantize
from stl_ray.models import seeded
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails

IDS = [f"train/{index}" for index in range(24)]


@pytest.fixture(scope="module")
def space() -> QuasiNaturalSpace:
    filters = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    filters = filters - filters.mean((2, 3), keepdim=True)
    return QuasiNaturalSpace.from_dictionary(
        Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], lmbda=0.1)
    )


@pytest.fixture(scope="module")
def clustered(natural_images) -> QuasiNaturalSpace:
    """Three strata of random dictionaries behind an untrained autoencoder."""

    def dictionary(seed: int) -> Dictionary:
        filters = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        filters = filters - filters.mean((2, 3), keepdim=True)
        return Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], lmbda=0.1)

    autoencoder = seeded(Autoencoder, 0).eval()
    latents = encode(autoencoder, thumbnails(natural_images, 32))
    router = Router(
        autoencoder,
        fit_clusters(latents, clusters=3, pca_components=8, restarts=2, seed=0),
        hash_ids(IDS),
        neighbours=1,
    )
    return QuasiNaturalSpace(dictionary(9), tuple(dictionary(seed) for seed in range(3)), 0.1, router, resolution=32)


@pytest.mark.parametrize("accuracy", ["default", "exact"])
@pytest.mark.parametrize("normalization", ["clip", "reference"])
def test_agrees_with_the_space_under_every_configuration(space, natural_images, accuracy, normalization):
    images = quantize(natural_images[:2, :, :16, :16])
    options = {"accuracy": accuracy, "normalization": normalization}
    purified = make_defense("stl", options, {"space": space, "solver": "auto"}).purify(images, seeds=range(2))
    expected = space.project(images, accuracy=accuracy, normalization=normalization)
    assert torch.equal(purified.images, expected.images)
    assert torch.equal(purified.sparsity, expected.sparsity)
    assert purified.iterations.tolist() == expected.iterations.tolist()
    assert set(purified.status) == {"converged"}


def test_identity_counts_space_lambda_accuracy_normalization_and_method(space, clustered):
    identities = [
        make_defense("stl", options, {"space": each, "solver": method}).identity()
        for each, options, method in (
            (space, {}, "auto"),
            (clustered, {}, "auto"),
            (space, {"lmbda": 0.3}, "auto"),
            (space, {"accuracy": "exact"}, "auto"),
            (space, {"normalization": "reference"}, "auto"),
            (space, {}, "admm"),
        )
    ]
    assert all(first != second for index, first in enumerate(identities) for second in identities[:index])
    assert identities[0] == {
        "defense": "stl", "space": space.digest, "lmbda": 0.1, "accuracy": "default", "normalization": "clip",
        "method": "auto",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["stl", "stl_cluster"])
def test_identity_another_lambda_is_that_of_a_space_made_at_it(clustered, natural_images, name):
    images = quantize(natural_images[:4])
    other = replace(clustered, lmbda=0.3)
    swept = make_defense(name, {"lmbda": 0.3}, {"space": clustered, "solver": "auto"})
    same = make_defense(name, {}, {"space": other, "solver": "auto"})
    assert swept.identity() == same.identity()
    assert torch.equal(swept.purify(images, seeds=range(4)).images, same.purify(images, seeds=range(4)).images)
    assert clustered.lmbda == 0.1


def test_refuses_a_space_without_clusters_where_they_are_chosen_among(space):
    message = "^stl_cluster: the space has no clusters to choose among; expected a space that was fitted, or stl"
    with pytest.raises(ConfigError, match=message):
        make_defense("stl_cluster", {}, {"space": space, "solver": "auto"})


def test_identity_the_rows_differ_in_the_space_and_the_cluster_goes_by_the_vote(clustered, natural_images):
    images, seeds = quantize(natural_images), range(24)
    for name, own in (("stl", clustered.universal()), ("stl_cluster", clustered)):
        defense = make_defense(name, {}, {"space": clustered, "solver": "auto"})
        purified = defense.purify(images, seeds=seeds)
        assert torch.equal(purified.images, own.project(images).images)
        assert defense.routes == (3 if name == "stl_cluster" else 0)
        assert purified.cluster.tolist() == (own.route(images).tolist() if name == "stl_cluster" else [-1] * 24)
    assert len(set(purified.cluster.tolist())) == 3
    excluded = defense.purify(images, seeds=seeds, exclude=IDS).cluster.tolist()
    assert excluded == clustered.route(images, exclude=IDS).tolist() != clustered.route(images).tolist()
