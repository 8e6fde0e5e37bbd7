"""A small space over natural images that needs no download and no training."""

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, split_bands
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails


@pytest.fixture(scope="session")
def dictionaries(natural_images: Tensor) -> tuple[Dictionary, ...]:
    """Four dictionaries of 12 filters of 8 x 8, random patches of the images' high band, zero mean in each channel."""
    windows = split_bands(natural_images)[1].unfold(2, 8, 1).unfold(3, 8, 1).transpose(1, 3).flatten(0, 2)
    centred = windows - windows.mean((2, 3), keepdim=True)
    textured = centred[centred.flatten(1).norm(dim=1) > 0.1]
    filters = textured / textured.flatten(1).norm(dim=1)[:, None, None, None]
    order = torch.randperm(len(filters), generator=torch.Generator().manual_seed(0))
    return tuple(Dictionary(filters[own], 0.2) for own in order[:48].view(4, 12))


@pytest.fixture(scope="session")
def ids() -> list[str]:
    """Of the 24 natural images."""
    return [f"train/{index}" for index in range(24)]


@pytest.fixture(scope="session")
def router(natural_images: Tensor, ids: list[str]) -> Router:
    """Three clusters of the images by the latents of an untrained autoencoder."""
    torch.manual_seed(0)
    autoencoder = Autoencoder().eval()
    latents = encode(autoencoder, thumbnails(natural_images, 32))
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
