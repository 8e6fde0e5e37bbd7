"""Training the denoiser of the diffusion defense: the noise of noisy windows, by Adam on the mean squared error.

Source: Ho et al. 2020, algorithm 1 and appendix B: a level of noise for each window, all as likely; windows are mirrored at
random; a rate that rises over the first steps, then stays; gradients are clipped to a norm of 1; the weights that are kept are
an exponential moving average of those of the steps. Its decay grows with the steps, as in Song et al. 2021 (Score-SDE), whose
network DiffPure takes. Windows that are held out are judged by the averaged weights, always with the same noise.

Every random number comes from (seed, epoch, purpose), so that training that goes on from a state gives the same bits as
training that was never stopped.
"""

import time
from collections.abc import Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stl_ray.defenses.diffusion_denoiser import DenoiserRecipe, DiffusionDenoiser
from stl_ray.defenses.diffusion_process import alpha_bars
from stl_ray.defenses.diffusion_unet import UNet
from stl_ray.errors import TrainingError
from stl_ray.images import from_uint8
from stl_ray.models import seeded
from stl_ray.seeding import seed_of
from stl_ray.training.classifier.checkpoint import capture, named, restore, unnamed
from stl_ray.training.data.batches import epoch_batches
from stl_ray.training.defenses.networks import NetworkEpoch

ITEM = "diffusion"

AVERAGE = "average."
"""Prefix of the averaged weights in a state."""

DECAY = 0.9999
"""Of the average, at most."""

WARMUP = 200
"""Steps in which the rate rises."""

HELD_OUT = 0.02
"""Share of the windows."""


def denoiser_of(state: Mapping[str, Tensor], recipe: DenoiserRecipe) -> DiffusionDenoiser:
    """The denoiser after the epoch of a state."""
    return DiffusionDenoiser.trained(unnamed(AVERAGE, state), alpha_bars(recipe.levels))


def train_diffusion(
    windows: Tensor,
    recipe: DenoiserRecipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[NetworkEpoch]:
    """Train a denoiser; yields after every epoch.

    Args:
        windows: (N, 3, side, side) uint8 RGB on the CPU, N >= 2; the first ones are held out.
        recipe: how it is trained.
        seed: the run seed.
        device: where it is trained.
        state: of an earlier `NetworkEpoch`, from which training resumes.

    Raises:
        TrainingError: there are too few windows, the state is another network's, or training diverged.
    """
    count = max(1, round(len(windows) * HELD_OUT))
    held_out, clean = windows[:count], windows[count:]
    if not len(clean):
        raise TrainingError("too few images to train on", item=ITEM, expected="2 or more", got=len(windows))
    network = seeded(partial(UNet, recipe.width), seed_of(seed, ITEM, "initial weights")).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    first = 0 if state is None else restore(network, optimizer, state, kind="denoiser")
    average = network.state_dict() if state is None else unnamed(AVERAGE, state)
    average = {name: tensor.to(device, copy=True) for name, tensor in average.items()}
    draws = Draws(recipe.levels, device)
    step = first * len(epoch_batches(len(clean), recipe.batch_size, epoch=1, seed=seed, item=ITEM))
    for epoch in range(first + 1, recipe.epochs + 1):
        started = time.perf_counter()
        total, generator = 0.0, _generator(seed, f"noise of epoch {epoch}")
        for batch in epoch_batches(len(clean), recipe.batch_size, epoch=epoch, seed=seed, item=ITEM):
            loss = draws.loss(network, clean[batch], generator, mirrored=True)
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * min(1, step / WARMUP)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            _follow(average, network, min(DECAY, (1 + step) / (10 + step)))
            total += float(loss.detach()) * len(batch)
        validation = _validation_loss(average, held_out, recipe, draws, seed)
        if not validation < float("inf"):
            raise TrainingError("the denoiser diverged", item=f"{ITEM}, epoch {epoch}", got=f"loss {validation}")
        seconds = time.perf_counter() - started
        kept = {**capture(network, optimizer, epoch), **named(AVERAGE, average)}
        yield NetworkEpoch(epoch, total / len(clean), validation, seconds, len(windows) / seconds, kept)


class Draws:
    """Windows at random levels of noise, and how far a network is from saying it.

    Args:
        levels: of noise, the lowest ones.
        device: where the network is.
    """

    def __init__(self, levels: int, device: torch.device | str) -> None:
        self._device = device
        self._alpha_bars = alpha_bars(levels)

    def loss(self, network: nn.Module, windows: Tensor, generator: torch.Generator, *, mirrored: bool) -> Tensor:
        """Mean squared error of the noise of windows (N, 3, side, side) uint8, which the generator draws on the CPU."""
        count = len(windows)
        levels = torch.randint(len(self._alpha_bars), (count,), generator=generator)
        noise = torch.randn(windows.shape, generator=generator)
        if mirrored:
            flip = torch.rand(count, generator=generator) < 0.5
            windows = torch.where(flip[:, None, None, None], windows.flip(3), windows)
        kept = self._alpha_bars[levels].float()[:, None, None, None]
        noisy = kept.sqrt() * (2 * from_uint8(windows) - 1) + (1 - kept).sqrt() * noise
        said = network(noisy.to(self._device), (levels + 1).to(self._device))
        return F.mse_loss(said, noise.to(self._device))


@torch.no_grad()
def _follow(average: Mapping[str, Tensor], network: UNet, decay: float) -> None:
    for name, tensor in network.state_dict().items():
        average[name].lerp_(tensor, 1 - decay)


@torch.no_grad()
def _validation_loss(
    average: Mapping[str, Tensor], held_out: Tensor, recipe: DenoiserRecipe, draws: Draws, seed: int
) -> float:
    with torch.device("meta"):
        network = UNet(recipe.width)
    network.load_state_dict(average, assign=True)
    generator = _generator(seed, "noise of held-out windows")
    parts = torch.split(held_out, recipe.batch_size)
    total = sum(float(draws.loss(network, part, generator, mirrored=False)) * len(part) for part in parts)
    return total / len(held_out)


def _generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, ITEM, purpose))
