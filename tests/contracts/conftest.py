"""One of everything that a defense may require, and images for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from stl_ray.csc import Dictionary
from stl_ray.defenses import Defense, make_defense
from stl_ray.defenses.diffusion_denoiser import DiffusionDenoiser
from stl_ray.defenses.diffusion_process import alpha_bars
from stl_ray.defenses.diffusion_unet import UNet
from stl_ray.defenses.magnet_autoencoder import Autoencoder as MagnetNetwork
from stl_ray.defenses.magnet_autoencoder import MagnetAutoencoder
from stl_ray.defenses.patch_dictionary import PatchDictionary
from stl_ray.defenses.pixel_cnn import FittedPixelCnn, PixelCnn
from stl_ray.defenses.quilting_library import PatchLibrary
from stl_ray.images import quantize
from stl_ray.models import build_classifier, seeded
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails
from stl_ray.training.defenses.patch_dictionary import normalised

IDS = [f"train/{index}" for index in range(24)]

OPTIONS: dict[str, dict[str, Any]] = {
    "ensemble": {"of": ["none", "jpeg", "stl"]},
    "crop_ensemble": {"of": ["none", "stl"], "crops": 2, "share": 0.5},
    "pixel_defend": {"eps_defend": 3},
    "diffusion": {"start": 60, "steps": 3},
    "sap": {"passes": 3},
    "lid": {"minibatch": 8, "neighbours": 4},
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
def artifacts(natural_images) -> dict[str, object]:
    """What defenses that are fitted are fitted with, by their names in the registry."""
    images = (natural_images * 255).byte()
    corners = [(row, column) for row in range(0, 28, 3) for column in range(0, 28, 3)]
    patches = torch.stack([images[:, :, row : row + 5, column : column + 5] for row, column in corners]).flatten(0, 1)
    larger = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    return {
        "d3": PatchDictionary(normalised(larger), "these"),
        "diffusion": DiffusionDenoiser.trained(seeded(lambda: UNet(8), 0).state_dict(), alpha_bars(100)),
        "magnet": MagnetAutoencoder.of(seeded(lambda: MagnetNetwork(3), 0).state_dict()),
        "pixel_defend": FittedPixelCnn.of(seeded(lambda: PixelCnn(4, 1, 1), 0).state_dict()),
        "quilting": PatchLibrary(patches.flatten(1)),
    }


@pytest.fixture(scope="session")
def resources(space, artifacts) -> Callable[[str], dict[str, object]]:
    """One of everything that a defense may require: with a new kind of resource, a line here."""
    members = {"jpeg": make_defense("jpeg", {}, {}), "stl": make_defense("stl", {}, {"space": space, "solver": "auto"})}
    classifier = build_classifier("small_cnn", ["a", "b", "c"], seed=1).eval()
    shared = {"space": space, "solver": "auto", "classifier": classifier, "members": members}
    return lambda name: {**shared, **({"artifact": artifacts[name]} if name in artifacts else {})}


@pytest.fixture(scope="session")
def options() -> Callable[[str], dict[str, Any]]:
    """The options that a defense is made with here."""
    return lambda name: OPTIONS.get(name, {})


@pytest.fixture(scope="session")
def made(resources, options) -> Callable[[str], Defense]:
    """Makes a defense by its name in the registry."""
    return lambda name: make_defense(name, options(name), resources(name))


@pytest.fixture(scope="session")
def ids() -> list[str]:
    """Ids of `natural_images`, which the space was made of."""
    return IDS
