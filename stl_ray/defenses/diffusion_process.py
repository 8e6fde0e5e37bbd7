"""The diffusion of an image: how noise is added to it, and a step by which a denoiser takes some away.

Source: Ho et al. 2020 (DDPM), sections 2 and 4; Song et al. 2021 (DDIM), equation 12, for steps over several levels and
for eta. Level t = 1, ..., 1000 of noise, on pixels in [-1, 1]:

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise        a_t = (1 - beta_1) ... (1 - beta_t), a_0 = 1, beta from 1e-4 to 0.02

A denoiser says the noise e of x_t. From level t to a lower one, s:

    x_0' = (x_t - sqrt(1 - a_t) e) / sqrt(a_t)
    sigma = eta sqrt((1 - a_s) / (1 - a_t)) sqrt(1 - a_t / a_s)
    x_s = sqrt(a_s) x_0' + sqrt(1 - a_s - sigma^2) e + sigma fresh noise

eta 1 is DDPM's ancestral sampling with the variance of the posterior; eta 0 is DDIM, without fresh noise. The last step, to
level 0, has none in either.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

LEVELS = 1000
"""Of the schedule."""


def alpha_bars(levels: int) -> Tensor:
    """a_1 to a_levels of the schedule, (levels,) float64."""
    return (1 - torch.linspace(1e-4, 0.02, LEVELS, dtype=torch.float64)[:levels]).cumprod(0)


def strided(start: int, steps: int) -> list[tuple[int, int]]:
    """(level, lower level) of every reverse step, from `start` to 0 in steps as equal as they can be, `steps` <= `start`."""
    levels = [number * start // steps for number in range(steps, -1, -1)]
    return list(pairwise(levels))


def noised(clean: Tensor, noise: Tensor, alpha_bar: float) -> Tensor:
    """x_t of x_0, both (B, 3, H, W), with standard normal noise."""
    return math.sqrt(alpha_bar) * clean + math.sqrt(1 - alpha_bar) * noise


def fresh_share(alpha_bar: float, lower: float, eta: float) -> float:
    """The standard deviation of the fresh noise of a step from a_t to a_s, sigma."""
    return eta * math.sqrt((1 - lower) / (1 - alpha_bar) * (1 - alpha_bar / lower))


def denoised(noisy: Tensor, noise: Tensor, alpha_bar: float, lower: float, sigma: float) -> Tensor:
    """x_s of x_t but for its fresh noise.

    Args:
        noisy: x_t, (B, 3, H, W).
        noise: what the denoiser says of it.
        alpha_bar: a_t.
        lower: a_s > a_t.
        sigma: of the fresh noise.
    """
    clean = (noisy - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)
    # A difference of equal numbers where all noise is fresh, as to level 0.
    return math.sqrt(lower) * clean + math.sqrt(max(1 - lower - sigma**2, 0)) * noise


def drawn(images: Tensor, seeds: Sequence[int]) -> Tensor:
    """Standard normal noise like images (B, 3, H, W), each by its seed: the same on every device and in both precisions."""
    shape = images.shape[1:]
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(noise).to(images)
