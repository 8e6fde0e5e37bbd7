"""Training MagNet's autoencoder: clean windows from noisy ones, by Adam on the mean squared error.

Source: Meng and Chen 2017, section 5.3, and their published code: the noise of a window is drawn once, before the first
epoch; noisy windows are clipped to [0, 1]; a tenth of the images (of CIFAR-10 the first 5,000) is held out, clean; the weights
that are kept are the last ones. Their code for MNIST also shrinks activations by 1e-9 of their square, which is left out.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from stl_ray.defenses.magnet_autoencoder import KIND, Autoencoder, AutoencoderRecipe
from stl_ray.images import from_uint8
from stl_ray.models import seeded
from stl_ray.seeding import seed_of
from stl_ray.training.defenses.networks import NetworkEpoch, divided, train_network

LEARNING_RATE = 1e-3
"""Of Adam, in the paper as in Keras."""


def train_magnet(
    windows: Tensor,
    recipe: AutoencoderRecipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[NetworkEpoch]:
    """Train an autoencoder; yields after every epoch. Its loss is the squared error; held-out windows have no noise.

    Args:
        windows: (N, 3, side, side) uint8 RGB on the CPU, N >= 2; the first tenth is held out.
        recipe: how it is trained.
        seed: the run seed.
        device: where it is trained.
        state: of an earlier epoch, from which training resumes.

    Raises:
        TrainingError: there are too few windows, the state is another network's, or training diverged.
    """
    held_out, clean = divided(windows, KIND)
    noisy = with_noise(clean, recipe.noise, seed=seed)
    network = seeded(partial(Autoencoder, recipe.width), seed_of(seed, KIND, "initial weights")).to(device)

    def loss(images: Tensor, rows: Tensor | None) -> Tensor:
        targets = from_uint8(images)
        return F.mse_loss(network(targets if rows is None else noisy[rows].to(device)), targets)

    return train_network(
        network, loss, held_out, clean, recipe, rate=lambda done: LEARNING_RATE, seed=seed, device=device, state=state
    )


def with_noise(clean: Tensor, noise: float, *, seed: int) -> Tensor:
    """Windows (N, 3, side, side) uint8 with Gaussian noise, float32 in [0, 1], drawn on the CPU for all of them in turn."""
    generator = torch.Generator().manual_seed(seed_of(seed, KIND, "noise"))
    noisy = torch.randn(clean.shape, generator=generator).mul_(noise)
    # In place, and few as floats at once.
    for part, windows in zip(torch.split(noisy, 1024), torch.split(clean, 1024), strict=True):
        part.add_(from_uint8(windows)).clamp_(0, 1)
    return noisy
