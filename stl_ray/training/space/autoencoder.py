"""Training the denoising autoencoder of the space: clean thumbnails from noisy ones.

Source: Sun et al. 2019, section 3.2; the authors' settings: Gaussian noise of sigma 0.15 clipped to [0, 1], binary
cross-entropy, Adam, early stopping on the validation loss.

Every random number comes from (seed, epoch, step): the noise of a whole batch is drawn from one generator, where it
trains, and every worker takes the rows of its images. So training that stops after an epoch and goes on from its state
gives the same bits, on one worker, as training that was never stopped. With more workers batches and noise are the
same and gradients are means over the whole batch; the statistics of batch norm are each worker's own, and those of
rank 0 are validated and kept.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.distributed
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from stl_ray.config.spaces import AutoencoderConfig
from stl_ray.errors import TrainingError
from stl_ray.models import seeded
from stl_ray.seeding import seed_of
from stl_ray.space import Autoencoder
from stl_ray.training.classifier.checkpoint import capture, named, restore, unnamed
from stl_ray.training.data.batches import batch_count, epoch_batches, permutation
from stl_ray.training.space.denoising import ITEM, Part, descend, evaluate

_BEST = "best."


@dataclass(frozen=True)
class AutoencoderEpoch:
    """Figures of one epoch over all workers, and the state from which training resumes."""

    epoch: int
    """Epochs finished, from 1."""
    train_loss: float
    """Mean binary cross-entropy of a pixel over the epoch, each batch at its step."""
    validation_loss: float
    """The same over the held-out images after the epoch, always under the same noise."""
    psnr: float
    """Mean PSNR in dB of the denoised held-out images against the clean ones, each counted for 58.9 at most."""
    noisy_psnr: float
    """The same of the noisy images: `psnr` minus this is the gain of denoising."""
    best: bool
    """Whether every earlier epoch had a larger validation loss."""
    seconds: float
    images_per_second: float
    """Training and held-out images."""
    _state: dict[str, Tensor] = field(repr=False)

    def row(self) -> dict[str, int | float]:
        """The figures by name, JSON-able."""
        return {name: value for name, value in vars(self).items() if name != "_state"}

    def state(self) -> dict[str, Tensor]:
        """Tensors on the CPU by name: the `state` of `train_autoencoder` and of `best_autoencoder`.

        The tensors of `stl_ray.training.classifier.checkpoint`, and `side`, `best_epoch`, `best_loss` and `best.<name>`, the best weights.
        """
        return self._state

    def autoencoder(self) -> Autoencoder:
        """The autoencoder of the best epoch so far: on the CPU, in eval mode."""
        return best_autoencoder(self._state)


def new_autoencoder(side: int, *, seed: int) -> Autoencoder:
    """An autoencoder for thumbnails of that side, with the random weights that training starts from.

    Raises:
        TensorError: there is no such side.
    """
    return seeded(partial(Autoencoder, side), seed_of(seed, ITEM, "initial weights"))


def best_autoencoder(state: Mapping[str, Tensor]) -> Autoencoder:
    """The autoencoder of the best epoch up to a state of `AutoencoderEpoch`: on the CPU, in eval mode."""
    autoencoder = seeded(partial(Autoencoder, int(state["side"])), 0)
    autoencoder.load_state_dict(unnamed(_BEST, state))
    return autoencoder.eval()


def train_autoencoder(
    model: Autoencoder | DistributedDataParallel,
    thumbnails: Tensor,
    config: AutoencoderConfig,
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[AutoencoderEpoch]:
    """Train `model` in place; yields after every epoch, in eval mode, until the epochs or the patience are used up.

    The last epoch's `autoencoder()` is the result, not `model`. The choice of held-out images depends on their number
    and the seed, all else on the thumbnails, their order, the recipe and the seed.

    Args:
        model: an `Autoencoder` on the device where it trains, such as `new_autoencoder`'s; in
            `DistributedDataParallel` if there are more workers.
        thumbnails: (N, 3, side, side) uint8 RGB: all of them, whatever the rank.
        config: the recipe.
        seed: the run seed.
        rank: of this worker, 0 <= rank < world_size.
        world_size: number of workers.
        state: of an earlier `AutoencoderEpoch`, from which training resumes.

    Raises:
        TrainingError: there are too few thumbnails, they have another size or type, the state is another model's,
            weights are not finite, or training diverged.
    """
    autoencoder = model.module if isinstance(model, DistributedDataParallel) else model
    _require_thumbnails(thumbnails, autoencoder.side)
    held_out, training = split(len(thumbnails), config, seed=seed, world_size=world_size)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=config.learning_rate)
    first_epoch, best_epoch, best_loss = 0, 0, float("inf")
    best_weights: dict[str, Tensor] = {}
    if state is not None:
        first_epoch = _restore(autoencoder, optimizer, state)
        best_epoch, best_loss = int(state["best_epoch"]), float(state["best_loss"])
        best_weights = unnamed(_BEST, state)
    _require_finite_weights(autoencoder)
    part = Part(thumbnails, config.noise, next(autoencoder.parameters()).device, rank, world_size)
    for epoch in range(first_epoch + 1, config.epochs + 1):
        if epoch - 1 - best_epoch >= config.patience:
            return
        started = time.perf_counter()
        batches: Sequence[Tensor] = epoch_batches(len(training), config.batch_size, epoch=epoch, seed=seed, item=ITEM)
        train_loss = descend(model.train(), optimizer, part, [training[b] for b in batches], epoch=epoch, seed=seed)
        if world_size > 1:
            for statistic in autoencoder.buffers():
                torch.distributed.broadcast(statistic, src=0)
        model.eval()
        batches = torch.split(held_out, config.batch_size)
        validation_loss, denoised, noisy = evaluate(autoencoder, part, batches, epoch=epoch, seed=seed)
        best = validation_loss < best_loss
        if best:
            best_epoch, best_loss, best_weights = epoch, validation_loss, named("", autoencoder.state_dict())
        seconds = time.perf_counter() - started
        yield AutoencoderEpoch(
            epoch=epoch,
            train_loss=train_loss,
            validation_loss=validation_loss,
            psnr=denoised,
            noisy_psnr=noisy,
            best=best,
            seconds=seconds,
            images_per_second=len(thumbnails) / seconds,
            _state={
                **capture(autoencoder, optimizer, epoch),
                **named(_BEST, best_weights),
                "side": torch.tensor(autoencoder.side),
                "best_epoch": torch.tensor(best_epoch),
                "best_loss": torch.tensor(best_loss, dtype=torch.float64),
            },
        )


def split(images: int, config: AutoencoderConfig, *, seed: int, world_size: int = 1) -> tuple[Tensor, Tensor]:
    """Indices of the held-out and of the training images, int64 each.

    Raises:
        TrainingError: there are too few to train on.
    """
    order = permutation(images, seed=seed, item=ITEM, purpose="held-out images")
    held_out = max(1, round(images * config.validation))
    training = images - held_out
    if training < 1 or training // batch_count(training, config.batch_size) < world_size:
        raise TrainingError(
            "too few images to train on",
            item=ITEM,
            expected=f"one for each of {world_size} workers in every batch",
            got=f"{images} images, {held_out} of them held out",
        )
    return order[:held_out], order[held_out:]


def _require_thumbnails(thumbnails: Tensor, side: int) -> None:
    if thumbnails.dtype != torch.uint8 or thumbnails.dim() != 4 or thumbnails.shape[1:] != (3, side, side):
        got = f"{tuple(thumbnails.shape)} {thumbnails.dtype}"
        raise TrainingError(
            "not this autoencoder's thumbnails", item=ITEM, expected=f"(N, 3, {side}, {side}) torch.uint8", got=got
        )


def _restore(autoencoder: Autoencoder, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> int:
    epoch = restore(autoencoder, optimizer, state, kind="autoencoder")
    side = int(state.get("side", 0))
    if side != autoencoder.side:  # its weights would fit
        raise TrainingError("the saved state is not of this autoencoder", expected=f"side {autoencoder.side}", got=side)
    return epoch


def _require_finite_weights(autoencoder: Autoencoder) -> None:
    bad = [name for name, tensor in autoencoder.state_dict().items() if not bool(tensor.isfinite().all())]
    if bad:
        raise TrainingError("weights to start from are not finite", item=ITEM, got=", ".join(bad[:5]))
