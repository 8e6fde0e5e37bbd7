"""Training the denoising autoencoder of the space: clean images from noisy ones.

Source: Sun et al. 2019, section 3.2; the authors' settings: Gaussian noise of sigma 0.15 clipped to [0, 1], binary
cross-entropy, Adam, early stopping on the validation loss.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from stl_ray.config.sections import AutoencoderConfig
from stl_ray.errors import TrainingError
from stl_ray.metrics import psnr
from stl_ray.models import seeded
from stl_ray.seeding import seed_of
from stl_ray.space.autoencoder import SIDE, Autoencoder
from stl_ray.training.batches import epoch_batches, permutation

_ITEM = "autoencoder"


@dataclass(frozen=True)
class AutoencoderEpoch:
    """What one epoch did, and the best weights so far."""

    epoch: int
    """Epochs finished, from 1."""
    train_loss: float
    """Mean binary cross-entropy of a pixel over the epoch, each batch at its step."""
    validation_loss: float
    """The same over the held-out images after the epoch, always under the same noise."""
    psnr: float
    """Mean PSNR in dB of the denoised held-out images against the clean ones."""
    best: bool
    """Whether every earlier epoch had a larger validation loss."""
    seconds: float
    _best_weights: dict[str, Tensor] = field(repr=False)

    def row(self) -> dict[str, int | float]:
        """The figures by name, JSON-able."""
        return {name: value for name, value in vars(self).items() if name != "_best_weights"}

    def autoencoder(self) -> Autoencoder:
        """The autoencoder of the best epoch so far: on the CPU, in eval mode."""
        autoencoder = seeded(Autoencoder, 0)
        autoencoder.load_state_dict(self._best_weights)
        return autoencoder.eval()


def train_autoencoder(images: Tensor, config: AutoencoderConfig, *, seed: int) -> Iterator[AutoencoderEpoch]:
    """Train an autoencoder; yields after every epoch, until the epochs or the patience are used up.

    The last epoch's `autoencoder()` is the result. It depends on the images, their order, the recipe and the seed.

    Args:
        images: (N, 3, 32, 32) float32 RGB in [0, 1] on the device where it trains; at least two.
        config: the recipe.
        seed: the run seed.

    Raises:
        TrainingError: there are too few images, they have another shape or range, or the loss is not finite.
    """
    _validate(images)
    order = permutation(len(images), seed=seed, item=_ITEM, purpose="held-out images")
    held_out = max(1, round(len(images) * config.validation))
    validation, training = images[order[:held_out]], images[order[held_out:]]
    if len(training) == 0:
        raise TrainingError("too few images to hold some out", expected="a smaller validation share", got=len(images))
    autoencoder = seeded(Autoencoder, seed_of(seed, _ITEM, "initial weights")).to(images.device)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=config.learning_rate)
    best_loss, best_epoch = float("inf"), 0
    best_weights: dict[str, Tensor] = {}
    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        train_loss = _descend(autoencoder.train(), optimizer, training, config, epoch=epoch, seed=seed)
        validation_loss, quality = _evaluate(autoencoder.eval(), validation, config, seed=seed)
        best = validation_loss < best_loss
        if best:
            best_loss, best_epoch = validation_loss, epoch
            best_weights = {name: t.to("cpu", copy=True) for name, t in autoencoder.state_dict().items()}
        yield AutoencoderEpoch(
            epoch=epoch,
            train_loss=train_loss,
            validation_loss=validation_loss,
            psnr=quality,
            best=best,
            seconds=time.perf_counter() - started,
            _best_weights=best_weights,
        )
        if epoch - best_epoch >= config.patience:
            return


def _descend(
    autoencoder: Autoencoder,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    config: AutoencoderConfig,
    *,
    epoch: int,
    seed: int,
) -> float:
    """One epoch of Adam; the mean loss."""
    noise = _generator(seed, f"noise of epoch {epoch}")
    total = 0.0
    for batch in epoch_batches(len(images), config.batch_size, epoch=epoch, seed=seed, item=_ITEM):
        clean = images[batch]
        loss = _loss(autoencoder(_noisy(clean, config.noise, noise)), clean)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        total += loss.item() * len(batch)
    return total / len(images)


@torch.no_grad()
def _evaluate(autoencoder: Autoencoder, images: Tensor, config: AutoencoderConfig, *, seed: int) -> tuple[float, float]:
    """The mean loss and the mean PSNR of held-out images."""
    noise = _generator(seed, "validation noise")
    loss = quality = 0.0
    for clean in torch.split(images, config.batch_size):
        reconstruction = autoencoder(_noisy(clean, config.noise, noise))
        loss += _loss(reconstruction, clean).item() * len(clean)
        quality += psnr(reconstruction, clean).sum().item()
    return loss / len(images), quality / len(images)


def _loss(reconstruction: Tensor, clean: Tensor) -> Tensor:
    if not bool(reconstruction.isfinite().all()):
        raise TrainingError("the autoencoder diverged", expected="a smaller learning rate")
    return F.binary_cross_entropy(reconstruction, clean)


def _generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, _ITEM, purpose))


def _noisy(images: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=generator)
    return (images + sigma * noise.to(images.device)).clamp(0, 1)


def _validate(images: Tensor) -> None:
    if images.dim() != 4 or images.shape[1:] != (3, SIDE, SIDE) or len(images) < 2:
        raise TrainingError("not the autoencoder's images", expected="(N >= 2, 3, 32, 32)", got=tuple(images.shape))
    # NaN fails the comparison too.
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise TrainingError("images out of range", expected="numbers in [0, 1]", got=images.aminmax())
