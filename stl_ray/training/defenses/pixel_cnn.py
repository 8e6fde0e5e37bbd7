"""Training the network of PixelDefend: the bits that it takes to say a value of a window, by Adam.

Its rate falls to 0 along half a cosine, in place of the mean of the weights that PixelCNN++ keeps: at its size training is
a matter of a few epochs. Source: Salimans et al. 2017; the loss is that of the published code of PixelDefend.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from stl_ray.defenses.logistic_mixture import log_likelihood
from stl_ray.defenses.pixel_cnn import KIND, PixelCnn, PixelCnnRecipe
from stl_ray.models import seeded
from stl_ray.seeding import seed_of
from stl_ray.training.defenses.networks import NetworkEpoch, divided, train_network

LEARNING_RATE = 4e-3
"""Of Adam, at the beginning."""


def train_pixel_cnn(
    windows: Tensor,
    recipe: PixelCnnRecipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[NetworkEpoch]:
    """Train a network; yields after every epoch. Its loss is in bits per dimension, that of one level in 256 equal ones 8.

    Args:
        windows: (N, 3, side, side) uint8 RGB on the CPU, N >= 2; the first tenth is held out.
        recipe: how it is trained.
        seed: the run seed.
        device: where it is trained.
        state: of an earlier epoch, from which training resumes.

    Raises:
        TrainingError: there are too few windows, the state is another network's, or training diverged.
    """
    held_out, learned = divided(windows, KIND)
    build = partial(PixelCnn, recipe.width, recipe.layers, recipe.mixtures)
    network = seeded(build, seed_of(seed, KIND, "initial weights")).to(device)

    def loss(images: Tensor, rows: Tensor | None) -> Tensor:
        return bits_per_dimension(network, images)

    return train_network(network, loss, held_out, learned, recipe, rate=falling, seed=seed, device=device, state=state)


def bits_per_dimension(network: PixelCnn, images: Tensor) -> Tensor:
    """The mean over images (B, 3, H, W) uint8 of the bits that say a value."""
    levels = images.to(network.output.weight.dtype)
    return log_likelihood(network(levels), levels.movedim(1, -1)).mean() / -math.log(2)


def falling(done: float) -> float:
    """The rate when a share of all steps is done."""
    return LEARNING_RATE * (1 + math.cos(math.pi * done)) / 2
