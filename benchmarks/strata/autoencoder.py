"""How well the space's autoencoder removes noise from test images, and how many images a second are routed here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.strata.routing_speed import Speed
from stl_ray.config.spaces import AutoencoderConfig
from stl_ray.images import from_uint8
from stl_ray.metrics import psnr
from stl_ray.models import tile_size
from stl_ray.seeding import seed_of
from stl_ray.space import Autoencoder, Router, thumbnails
from stl_ray.tiling import in_tiles

SIGMA = AutoencoderConfig().noise
"""Standard deviation of the noise, in [0, 1] pixels: the authors'."""

ROUNDS = 3

_SEED = 0


@dataclass(frozen=True)
class Denoising:
    """PSNR in dB against the clean thumbnail, (N,) float64 each.

    Attributes:
        noisy: of the noisy thumbnail.
        denoised: of what the autoencoder makes of it.
    """

    noisy: Tensor
    denoised: Tensor


@torch.no_grad()
def denoise(autoencoder: Autoencoder, images: Tensor, ids: Sequence[str]) -> Denoising:
    """Gaussian noise of SIGMA, clipped to [0, 1], drawn by the image's id."""
    clean = from_uint8(thumbnails(images, autoencoder.side))
    noise = torch.stack([_noise(clean.shape[1:], name) for name in ids])
    noisy = (clean + SIGMA * noise).clamp(0, 1)
    size = tile_size(autoencoder.side, autoencoder.side, noisy.device)
    (denoised,) = in_tiles(lambda tile: (autoencoder(tile),), noisy, size=size)
    return Denoising(psnr(noisy, clean).double(), psnr(denoised, clean).double())


def _noise(shape: torch.Size, name: str) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed_of(_SEED, name, "noise")))


def routing_speeds(router: Router, images: Tensor) -> dict[str, Speed]:
    """Images a second of one batch: the whole way, and its two parts; the same ROUNDS turns for each."""
    latents = router.latents(images)
    parts: dict[str, Callable[[], object]] = {
        "image to cluster": lambda: router.vote(router.latents(images)),
        "image to latent": lambda: router.latents(images),
        "latent to cluster": lambda: router.vote(latents),
    }
    router.vote(latents)  # references are centred once
    speeds = {name: Speed() for name in parts}
    for _ in range(ROUNDS):
        for name, work in parts.items():
            speeds[name].add(len(images), work)
    return speeds
