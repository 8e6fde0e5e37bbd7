"""What training sees of its images: crops, flips, colours, by (seed, epoch, image id) and nothing else.

The padded crop with its flip is ours (`augmentation`), for whole batches; everything else is torchvision's, image by image,
each from a generator of its own.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from stl_ray.config.training import TrainConfig
from stl_ray.seeding import seed_of
from stl_ray.training.data.augmentation import augment
from stl_ray.training.data.sizes import size_at


def views(images: Tensor, ids: Sequence[str], config: TrainConfig, *, seed: int, epoch: int) -> Tensor:
    """Augmented images of an epoch.

    Args:
        images: (B, 3, H, W) uint8 RGB, on the device where the work is done.
        ids: the B image ids.
        config: the recipe.
        seed: the run seed.
        epoch: from 0.

    Returns:
        (B, 3, h, w) uint8, h x w as `size_at` says. What is drawn is the same on every device; resized pixels may differ
        in their rounding.

    Raises:
        TrainingError: the crop padding is not smaller than the images.
    """
    from torchvision.transforms.v2 import functional

    size = size_at(epoch, config, (images.shape[-2], images.shape[-1]))
    if config.random_resized_crop is None:
        images = augment(images, ids, seed=seed, epoch=epoch, padding=config.crop_padding, flip=config.flip)
    transform = _transform(config, size)
    if transform is not None:
        height, width = size if config.random_resized_crop is not None else images.shape[-2:]
        transformed = images.new_empty((len(images), height, width, 3)).permute(0, 3, 1, 2)
        # torchvision draws from torch's global generator on the CPU, whatever device the images are on.
        with torch.random.fork_rng(devices=[]):
            for view, image, name in zip(transformed, images, ids, strict=True):
                torch.default_generator.manual_seed(seed_of(seed, name, f"view of epoch {epoch}"))
                view.copy_(transform(image))
        images = transformed
    if images.shape[-2:] != size:
        images = functional.resize(images, list(size), antialias=True)
    return images


@lru_cache(maxsize=8)
def _transform(config: TrainConfig, size: tuple[int, int]):  # type: ignore[no-untyped-def]
    """Torchvision's part of the augmentation, None where there is none."""
    from torchvision.transforms import v2

    steps: list[torch.nn.Module] = []
    if config.random_resized_crop is not None:
        steps.append(v2.RandomResizedCrop(size, scale=(config.random_resized_crop, 1.0), antialias=True))
        if config.flip:
            steps.append(v2.RandomHorizontalFlip())
    if config.colour_jitter:
        steps.append(v2.ColorJitter(config.colour_jitter, config.colour_jitter, config.colour_jitter))
    if config.rand_augment:
        steps.append(v2.RandAugment(num_ops=2, magnitude=config.rand_augment))
    return v2.Compose(steps) if steps else None
