"""A small space over natural images that needs no download and no training."""

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, split_bands
from stl_ray.csc.filters import initial_filters
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids


@pytest.fixture(scope="session")
def dictionaries(natural_images: Tensor) -> tuple[Dictionary, ...]:
    """Four dictionaries of 12 filters of 8 x 8, patches of the images' high band."""
    highpass = split_bands(natural_images)[1]
    seeds = (torch.Generator().manual_seed(seed) for seed in range(4))
    return tuple(Dictionary(initial_filters(highpass, 12, 8, seed), 0.2) for seed in seeds)


@pytest.fixture(scope="session")
def ids() -> list[str]:
    """Of the 24 natural images."""
    return [f"train/{index}" for index in range(24)]


@pytest.fixture(scope="session")
def router(natural_images: Tensor, ids: list[str]) -> Router:
    """Three clusters of the images by the latents of an untrained autoencoder."""
    torch.manual_seed(0)
    autoencoder = Autoencoder().eval()
    latents = encode(autoencoder, natural_images)
    return Router(
        autoencoder,
        fit_clusters(latents, clusters=3, pca_components=8, restarts=3, seed=0),
        hash_ids(ids),
        neighbours=3,
    )


@pytest.fixture
def space(dictionaries: tuple[Dictionary, ...], router: Router) -> QuasiNaturalSpace:
    """Three strata, learned at 32 x 32."""
    return QuasiNaturalSpace(dictionaries[3], dictionaries[:3], 0.2, router, 32, {"images": 24})
