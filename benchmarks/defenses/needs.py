"""What defenses are made with for a benchmark: artifacts from images at hand, of sizes that a page can state."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common.images import LMBDA, load_images
from benchmarks.defenses.d3 import patch_dictionary
from benchmarks.defenses.quilting import library_patches
from stl_ray.defenses.diffusion import DiffusionOptions
from stl_ray.defenses.diffusion_denoiser import DiffusionDenoiser
from stl_ray.defenses.diffusion_process import alpha_bars
from stl_ray.defenses.diffusion_unet import UNet
from stl_ray.defenses.magnet import MagnetOptions
from stl_ray.defenses.magnet_autoencoder import Autoencoder as MagnetNetwork
from stl_ray.defenses.magnet_autoencoder import MagnetAutoencoder
from stl_ray.defenses.pixel_cnn import FittedPixelCnn, PixelCnn
from stl_ray.defenses.pixel_defend import PixelDefendOptions
from stl_ray.defenses.quilting_library import PatchLibrary
from stl_ray.models import seeded
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails

OPTIONS: dict[str, dict[str, Any]] = {"pixel_deflection": {"map": "none"}}
"""Options other than the defaults: the map costs what the classifier costs that makes it."""

CLUSTERS = 10


def _pixel_cnn() -> PixelCnn:
    options = PixelDefendOptions()
    return PixelCnn(options.width, options.layers, options.mixtures)


def _unet() -> UNet:
    return UNet(DiffusionOptions().width)


def _weights(make: Callable[[], nn.Module]) -> dict[str, Tensor]:
    return seeded(make, 0).state_dict()


class Needs:
    """Resources, made when they are first asked for.

    Args:
        data: folder of images, as for `load_images`.
        small: artifacts for a look only.
    """

    def __init__(self, data: Path | None, *, small: bool) -> None:
        self.data = data
        self.atoms, self.patches = (64, 1000) if small else (10_000, 100_000)
        self._artifacts: dict[str, Any] = {}
        self._makers: dict[str, Callable[[], Any]] = {
            "d3": lambda: patch_dictionary(self.atoms, data),
            "quilting": lambda: PatchLibrary(torch.from_numpy(library_patches(self.patches, self.patches // 50, data))),
            "magnet": lambda: MagnetAutoencoder.of(_weights(partial(MagnetNetwork, MagnetOptions().width))),
            "pixel_defend": lambda: FittedPixelCnn.of(_weights(_pixel_cnn)),
            "diffusion": lambda: DiffusionDenoiser.trained(_weights(_unet), alpha_bars(DiffusionOptions().levels)),
        }

    @property
    def text(self) -> str:
        """What there is, in words."""
        return (
            f"Artifacts: for `d3` {self.atoms} atoms; for `quilting` a library of {self.patches} patches (the default has a "
            "million, and the exact search takes as many times longer); networks that were not trained; for `stl` "
            f"and `stl_cluster` the dictionary of the benchmark of projections, with an untrained router of {CLUSTERS} clusters. "
            "`pixel_deflection` without a map, which would take a classifier's time besides"
        )

    def of(self, name: str, size: int) -> dict[str, Any]:
        """All that there is for a defense and images of a size; no artifact where none is made here."""
        resources: dict[str, Any] = {"space": self._space(size), "solver": "auto"}
        if name in self._makers:
            if name not in self._artifacts:
                self._artifacts[name] = self._makers[name]()
            resources["artifact"] = self._artifacts[name]
        return resources

    def _space(self, size: int) -> QuasiNaturalSpace:
        key = f"space at {size}"
        if key not in self._artifacts:
            images = load_images(size, 2 * CLUSTERS, self.data)
            autoencoder = seeded(Autoencoder, 0).eval()
            latents = encode(autoencoder, thumbnails(images.pixels, 32))
            clusters = fit_clusters(latents, clusters=CLUSTERS, pca_components=8, restarts=2, seed=0)
            router = Router(autoencoder, clusters, hash_ids([str(row) for row in range(len(latents))]), neighbours=1)
            self._artifacts[key] = QuasiNaturalSpace(
                images.dictionary, (images.dictionary,) * CLUSTERS, LMBDA, router, resolution=32
            )
        return self._artifacts[key]  # type: ignore[no-any-return]
