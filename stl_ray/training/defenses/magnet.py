"""Training MagNet's autoencoder: clean windows from noisy ones, by Adam on the mean squared error.

Source: Meng and Chen 2017, section 5.3, and their published code: the noise of a window is drawn once, before the first
epoch; noisy windows are clipped to [0, 1]; a tenth of the images (of CIFAR-10 the first 5,000) is held out, clean; the weights
that are kept are the last ones. Their code for MNIST also shrinks activations by 1e-9 of their square, which is left out.

Every random number comes from (seed, purpose), so that training that goes on from a state gives the same bits as training
that was never stopped.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from stl_ray.defenses.magnet_autoencoder import Autoencoder, AutoencoderRecipe, MagnetAutoencoder, held_out
from stl_ray.errors import TrainingError
from stl_ray.images import from_uint8
from stl_ray.models import seeded
from stl_ray.seeding import seed_of
from stl_ray.training.classifier.checkpoint import MODEL, capture, restore, unnamed
from stl_ray.training.data.batches import epoch_batches

ITEM = "magnet"

LEARNING_RATE = 1e-3
"""Of Adam, in the paper as in Keras."""


@dataclass(frozen=True)
class MagnetEpoch:
    """Figures of one epoch, and the state from which training resumes."""

    epoch: int
    """Epochs finished, from 1."""
    train_loss: float
    """Mean squared error of a value over the epoch, each batch at its step."""
    validation_loss: float
    """The same over the held-out windows, without noise, after the epoch."""
    seconds: float
    images_per_second: float
    _state: dict[str, Tensor] = field(repr=False)

    def row(self) -> dict[str, int | float]:
        """The figures by name, JSON-able."""
        return {name: value for name, value in vars(self).items() if name != "_state"}

    def state(self) -> dict[str, Tensor]:
        """Tensors on the CPU by name: the `state` of `train_magnet`."""
        return self._state


def autoencoder_of(state: Mapping[str, Tensor]) -> MagnetAutoencoder:
    """The autoencoder after the epoch of a state."""
    return MagnetAutoencoder.of(unnamed(MODEL, state))


def train_magnet(
    windows: Tensor,
    recipe: AutoencoderRecipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[MagnetEpoch]:
    """Train an autoencoder; yields after every epoch.

    Args:
        windows: (N, 3, side, side) uint8 RGB on the CPU, N >= 2; the first tenth is held out.
        recipe: how it is trained.
        seed: the run seed.
        device: where it is trained.
        state: of an earlier `MagnetEpoch`, from which training resumes.

    Raises:
        TrainingError: there are too few windows, the state is another network's, or training diverged.
    """
    count = held_out(len(windows))
    kept, clean = windows[:count], windows[count:]
    if not len(clean):
        raise TrainingError("too few images to train on", item=ITEM, expected="2 or more", got=len(windows))
    noisy = with_noise(clean, recipe.noise, seed=seed)
    network = seeded(partial(Autoencoder, recipe.width), seed_of(seed, ITEM, "initial weights")).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    first = 0 if state is None else restore(network, optimizer, state, kind="autoencoder")
    for epoch in range(first + 1, recipe.epochs + 1):
        started = time.perf_counter()
        total = 0.0
        for batch in epoch_batches(len(clean), recipe.batch_size, epoch=epoch, seed=seed, item=ITEM):
            targets = from_uint8(clean[batch].to(device))
            loss = F.mse_loss(network(noisy[batch].to(device)), targets)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        validation = _validation_loss(network, torch.split(kept, recipe.batch_size), device)
        if not validation < float("inf"):
            raise TrainingError("the autoencoder diverged", item=f"{ITEM}, epoch {epoch}", got=f"loss {validation}")
        seconds = time.perf_counter() - started
        yield MagnetEpoch(
            epoch, total / len(clean), validation, seconds, len(windows) / seconds, capture(network, optimizer, epoch)
        )


def with_noise(clean: Tensor, noise: float, *, seed: int) -> Tensor:
    """Windows (N, 3, side, side) uint8 with Gaussian noise, float32 in [0, 1], drawn on the CPU for all of them in turn."""
    generator = torch.Generator().manual_seed(seed_of(seed, ITEM, "noise"))
    noisy = torch.randn(clean.shape, generator=generator).mul_(noise)
    for part, windows in zip(
        torch.split(noisy, 1024), torch.split(clean, 1024), strict=True
    ):  # in place, and few as floats at once
        part.add_(from_uint8(windows)).clamp_(0, 1)
    return noisy


@torch.no_grad()
def _validation_loss(network: Autoencoder, batches: Sequence[Tensor], device: torch.device | str) -> float:
    total = 0.0
    for batch in batches:
        images = from_uint8(batch.to(device))
        total += float(F.mse_loss(network(images), images)) * len(batch)
    return total / sum(map(len, batches))
