"""The inputs of a training step: from a rank's part of a batch to images, targets and weights on its device.

Augmentation (unless the loaders did it), attacks, mixing, and the defense before the classifier, in this order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from stl_ray.config.training import TrainConfig
from stl_ray.defenses import Differentiable
from stl_ray.images import from_uint8, quantize
from stl_ray.models import Classifier
from stl_ray.seeding import seed_of, seeds_of
from stl_ray.training.classifier.adversarial import attacked
from stl_ray.training.classifier.mixing import mixed
from stl_ray.training.data.augmentation import augment
from stl_ray.training.data.loader import Batch
from stl_ray.training.data.source import TrainingImages


@dataclass(frozen=True)
class StepInputs:
    """The inputs of the classifier and its loss.

    Attributes:
        images: (B, 3, h, w) in [0, 1].
        targets: (B,) int64 classes, or (B, classes) shares of them.
        weights: (B,) of the losses, mean 1; None: all the same.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor | None = None


def step_inputs(
    batch: Batch,
    images: TrainingImages,
    labels: Tensor,
    classifier: Classifier,
    input_transform: Differentiable | None,
    config: TrainConfig,
    *,
    seed: int,
    item: str,
) -> StepInputs:
    """Prepare a rank's part of a batch.

    Args:
        batch: from the loader.
        images: the training images, for their ids.
        labels: (B,) int64.
        classifier: attacked as it stands, where the recipe says so; its device is where the work is done.
        input_transform: the defense that images pass on their way to it, with another draw for every epoch.
        config: the recipe.
        seed: the run seed.
        item: names the step and the rank, for seeds.
    """
    device = classifier.mean.device
    pixels = batch.images.to(device, non_blocking=True)
    if config.augment_on == "device":
        pixels = augment(pixels, images.ids(batch.indices), config, seed=seed, epoch=batch.epoch)
    # One layout, whatever the loader's: convolutions choose their algorithm by it.
    inputs = StepInputs(from_uint8(pixels).contiguous(), labels.to(device, non_blocking=True))

    def draws(purpose: str) -> list[int]:
        return seeds_of(seed, images.ids(batch.indices), f"{purpose} draw, epoch {batch.epoch}")

    bfloat16 = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")
    with seeded(seed_of(seed, item, "attack and mixing"), device), bfloat16:
        if config.adversarial is not None:
            part = attacked(
                classifier, input_transform, inputs.images, inputs.targets, config.adversarial, seeds=draws("attacked")
            )
            inputs = StepInputs(part.images, inputs.targets, part.weights)
        if config.mixup or config.cutmix:
            inputs = StepInputs(*mixed(inputs.images, inputs.targets, len(classifier.class_names), config))
    if input_transform is None:
        return inputs
    with torch.no_grad():
        return StepInputs(quantize(input_transform(inputs.images, draws("training"))), inputs.targets, inputs.weights)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, from which dropout and its like draw, in the block; they are restored after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
