"""The sizes of images and batches that training sees, and whether the network takes them."""

from copy import deepcopy

import torch

from stl_ray.config.training import TrainConfig
from stl_ray.errors import TrainingError
from stl_ray.models import Classifier
from stl_ray.training.data.batches import batch_count, smallest_part

_GROWN_AT = 0.6  # share of the epochs after which images have their own size
_STEP = 32  # pixels


def size_at(epoch: int, config: TrainConfig, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that training sees in an epoch: the images' own, or smaller at first (progressive resizing).

    Source: the schedule of FixRes and FFCV's ImageNet recipe: linear growth, here over 60 % of the epochs.
    """
    if config.start_size is None or config.start_size >= min(size):
        return size
    share = min(1.0, epoch / max(1, round(_GROWN_AT * config.epochs)))
    side = config.start_size + share * (min(size) - config.start_size)
    if share == 1.0:
        return size
    scale = max(config.start_size, int(side) // _STEP * _STEP) / min(size)
    return round(size[0] * scale), round(size[1] * scale)


def require_sizes(classifier: Classifier, config: TrainConfig, size: tuple[int, int]) -> None:
    """Refuse images that the network cannot take, at their own size or at the first epoch's; tried on an image of zeros.

    Args:
        classifier: its mode is restored.
        config: the recipe.
        size: height and width of the images.

    Raises:
        TrainingError: it cannot; the message has the network's error.
    """
    training = classifier.training
    classifier.eval()
    try:
        for height, width in (size_at(0, config, size), size):
            try:
                with torch.no_grad():
                    classifier(torch.zeros(1, 3, height, width, device=classifier.mean.device))
            except (RuntimeError, AssertionError, ValueError) as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise TrainingError(
                    f"the network cannot take such images ({reason})",
                    item=classifier.architecture,
                    expected="a size that it was made for; ingest.size sets the images', start_size the first epoch's",
                    got=f"{height} x {width} pixels",
                ) from error
    finally:
        classifier.train(training)


def require_parts(classifier: Classifier, config: TrainConfig, size: tuple[int, int], images: int) -> None:
    """Refuse batches of which a worker gets too few images, in any step of an epoch: none, or one alone in a network whose
    batch norm is left with a single value per channel.

    Args:
        classifier: is left as it is.
        config: the recipe.
        size: height and width of the images.
        images: number of training images.

    Raises:
        TrainingError: a worker gets too few; the message has the arithmetic.
    """
    part = smallest_part(images, config.batch_size, config.workers)
    if part > 1 or (part == 1 and _learns_from_one(classifier, config, size)):
        return
    wanted = part + 1
    enough = (n for n in range(config.batch_size, images + 1) if smallest_part(images, n, config.workers) >= wanted)
    batch_size = next(enough, None)
    batches = batch_count(images, config.batch_size)
    reason = "batch norm would be left with one value per channel" if part else "a worker would get no image of a batch"
    raise TrainingError(
        reason,
        item=classifier.architecture,
        expected=f"batch_size={batch_size}" if batch_size else "fewer train.workers, or more images",
        got=f"{images} images in {batches} batches, the smallest of {images // batches} for {config.workers} workers",
    )


def _learns_from_one(classifier: Classifier, config: TrainConfig, size: tuple[int, int]) -> bool:
    """Whether a step of training goes through with a single image."""
    trial = deepcopy(classifier).train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for height, width in (size_at(0, config, size), size):
            try:
                trial(torch.zeros(1, 3, height, width, device=classifier.mean.device))
            except ValueError:  # of torch's batch_norm, which trainings of ranks meet before anything else
                return False
    return True
