"""Training a classifier by stochastic gradient descent on augmented images.

Every random number comes from (seed, epoch, image or step), so training that stops after an epoch and goes on from
its state gives the same bits, on one worker, as training that was never stopped. With more workers the batches are
the same and each worker takes its part of every one; gradients are means over the whole batch, the statistics of
batch norm are each worker's own, and those of rank 0 are kept.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from stl_ray.config.sections import TrainConfig
from stl_ray.errors import TrainingError
from stl_ray.images import from_uint8
from stl_ray.models import Classifier
from stl_ray.seeding import seed_of
from stl_ray.training.augmentation import augment
from stl_ray.training.batches import batch_count, epoch_batches, rank_part
from stl_ray.training.labels import validate_labels
from stl_ray.training.recipe import learning_rate, sgd
from stl_ray.training.state import capture, restore


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch did, over all workers, and the state from which training can go on."""

    epoch: int
    """Epochs finished, from 1."""
    loss: float
    """Mean loss of the epoch's augmented images, each at its step."""
    accuracy: float
    """Share of them that were classified rightly, each at its step."""
    learning_rate: float
    """Of the epoch's last step."""
    seconds: float
    images_per_second: float
    _state: dict[str, Tensor] = field(repr=False)

    def row(self) -> dict[str, int | float]:
        """The figures by name, JSON-able."""
        return {name: value for name, value in vars(self).items() if name != "_state"}

    def state(self) -> dict[str, Tensor]:
        """Tensors on the CPU by name (see `stl_ray.training.state`): the `state` of `train_classifier`."""
        return self._state


def train_classifier(
    model: Classifier | DistributedDataParallel,
    images: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    config: TrainConfig,
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[EpochMetrics]:
    """Train `model` in place; yields after every epoch, with the model in eval mode.

    Args:
        model: a `Classifier` on the device where it trains; in `DistributedDataParallel` if there are more workers.
        images: (N, 3, H, W) uint8 RGB: all of them, whatever the rank.
        labels: (N,) int64.
        ids: the N image ids.
        config: the recipe.
        seed: the run seed.
        rank: of this worker, 0 <= rank < world_size.
        world_size: number of workers.
        state: what `EpochMetrics.state` gave after an earlier epoch; training goes on from there.

    Raises:
        TrainingError: the labels do not fit the classes, a batch has fewer images than there are workers, the state
            is another model's, or the loss is not finite.
    """
    classifier = model.module if isinstance(model, DistributedDataParallel) else model
    validate_labels(labels, ids, classifier.class_names)
    steps = batch_count(len(ids), config.batch_size)
    if len(ids) // steps < world_size:
        raise TrainingError("a worker would get no image of a batch", expected=f"{world_size} images", got=len(ids))
    optimizer = sgd(classifier, config)
    first_epoch = 0 if state is None else restore(classifier.backbone, optimizer, state, kind="classifier")
    device = classifier.mean.device
    for epoch in range(first_epoch, config.epochs):
        started = time.perf_counter()
        model.train()
        totals = torch.zeros(2, dtype=torch.float64, device=device)  # loss and right answers
        for step, batch in enumerate(
            epoch_batches(len(ids), config.batch_size, epoch=epoch, seed=seed, item="classifier")
        ):
            rate = learning_rate(
                epoch * steps + step, config.epochs * steps, peak=config.learning_rate, warmup=config.warmup
            )
            mine = rank_part(batch, rank=rank, world_size=world_size)
            names = [ids[index] for index in mine.tolist()]
            crops = augment(images[mine], names, seed=seed, epoch=epoch, padding=config.crop_padding, flip=config.flip)
            with _random_layers(seed_of(seed, f"{epoch}/{step}/{rank}", "random layers"), device):
                logits = model(from_uint8(crops.to(device)))
            targets = labels[mine].to(device)
            losses = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing, reduction="none")
            _require_finite(losses, names, epoch=epoch + 1)
            # DistributedDataParallel averages over ranks; with this factor that is the mean over the whole batch.
            _descend(optimizer, losses.sum() * (world_size / len(batch)), rate)
            totals += torch.stack([losses.detach().sum(), (logits.detach().argmax(dim=1) == targets).sum()])
        if world_size > 1:
            torch.distributed.all_reduce(totals)
        model.eval()
        seconds = time.perf_counter() - started
        loss, correct = totals.tolist()
        yield EpochMetrics(
            epoch=epoch + 1,
            loss=loss / len(ids),
            accuracy=correct / len(ids),
            learning_rate=rate,
            seconds=seconds,
            images_per_second=len(ids) / seconds,
            _state=capture(classifier.backbone, optimizer, epoch + 1),
        )


def _descend(optimizer: torch.optim.SGD, loss: Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


@contextmanager
def _random_layers(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout and its like draw from torch's global generators: seed them here, and put them back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _require_finite(losses: Tensor, ids: Sequence[str], *, epoch: int) -> None:
    finite = losses.isfinite()
    if not finite.all():
        bad = [item for item, good in zip(ids, finite.tolist(), strict=True) if not good]
        shown = ", ".join(bad[:8]) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
        raise TrainingError(
            f"the loss is not finite for {len(bad)} of the {len(ids)} images of a batch: {shown}",
            item=f"epoch {epoch}",
            expected="finite losses; a smaller learning rate helps if this is not the images' fault",
            got=losses[~finite][0].item(),
        )
