"""One of everything that a defense may require, and images for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from stl_ray.csc import Dictionary
from stl_ray.defenses import Defense, make_defense
from stl_ray.images import quantize
from stl_ray.models import build_classifier, seeded
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails

IDS = [f"train/{index}" for index in range(24)]

OPTIONS: dict[str, dict[str, Any]] = {
    "ensemble": {"of": ["none", "jpeg", "stl"]},
    "crop_ensemble": {"of": ["none", "stl"], "crops": 2, "share": 0.5},
    "robust_classifier": {"classifier": "robust"},
    "sap": {"passes": 3},
}
"""Options of defenses that cannot do without, or would take long by their defaults."""


@pytest.fixture(scope="session")
def images(natural_images) -> torch.Tensor:
    return quantize(natural_images[::3])


@pytest.fixture(scope="session")
def space(natural_images) -> QuasiNaturalSpace:
    """Three strata of random dictionaries behind an untrained autoencoder: enough for what holds for all."""

    def dictionary(seed: int) -> Dictionary:
        filters = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        filters = filters - filters.mean((2, 3), keepdim=True)
        return Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], lmbda=0.1)

    autoencoder = seeded(Autoencoder, 0).eval()
    latents = encode(autoencoder, thumbnails(natural_images, 32))
    clusters = fit_clusters(latents, clusters=3, pca_components=8, restarts=2, seed=0)
    router = Router(autoencoder, clusters, hash_ids(IDS), neighbours=1)
    return QuasiNaturalSpace(dictionary(9), tuple(dictionary(seed) for seed in range(3)), 0.1, router, resolution=32)


@pytest.fixture(scope="session")
def resources(space) -> dict[str, object]:
    """One of everything that a defense may require: with a new kind of resource, a line here."""
    members = {"jpeg": make_defense("jpeg", {}, {}), "stl": make_defense("stl", {}, {"space": space, "solver": "auto"})}
    classifier = build_classifier("thermometer_resnet20", ["a", "b", "c"], seed=0).eval()
    return {"space": space, "solver": "auto", "members": members, "classifier": classifier}


@pytest.fixture(scope="session")
def options() -> Callable[[str], dict[str, Any]]:
    """The options that a defense is made with here."""
    return lambda name: OPTIONS.get(name, {})


@pytest.fixture(scope="session")
def made(resources, options) -> Callable[[str], Defense]:
    """Makes a defense by its name in the registry."""
    return lambda name: make_defense(name, options(name), resources)


@pytest.fixture(scope="session")
def ids() -> list[str]:
    """Ids of `natural_images`, which the space was made of."""
    return IDS
