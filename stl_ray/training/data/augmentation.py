"""Augmentation of training images: crops, flips, colours, as a function of (seed, epoch, image id) alone.

Batches, workers and the order of work change nothing. The padded crop with its flip works on whole batches; every other
transform is torchvision's, image by image, each from a generator of its own.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from stl_ray.config.training import TrainConfig
from stl_ray.errors import TrainingError
from stl_ray.seeding import seed_of
from stl_ray.training.data.sizes import size_at


def augment(images: Tensor, ids: Sequence[str], config: TrainConfig, *, seed: int, epoch: int) -> Tensor:
    """Augmented images of an epoch.

    Args:
        images: (B, 3, H, W) uint8 RGB, on the device where the work is done.
        ids: the B image ids.
        config: the recipe.
        seed: the run seed.
        epoch: from 0.

    Returns:
        (B, 3, h, w) uint8, h x w as `size_at` says. The draws are the same on every device; resized pixels may differ
        in their rounding.

    Raises:
        TrainingError: the crop padding is not smaller than the images.
    """
    from torchvision.transforms.v2 import functional

    size = size_at(epoch, config, (images.shape[-2], images.shape[-1]))
    if config.random_resized_crop is None:
        images = crop_and_flip(images, ids, seed=seed, epoch=epoch, padding=config.crop_padding, flip=config.flip)
    transform = _transform(config, size)
    if transform is not None:
        height, width = size if config.random_resized_crop is not None else images.shape[-2:]
        transformed = images.new_empty((len(images), height, width, 3)).permute(0, 3, 1, 2)
        # torchvision draws from torch's global generator on the CPU, whatever device the images are on.
        with torch.random.fork_rng(devices=[]):
            for view, image, item in zip(transformed, images, ids, strict=True):
                torch.default_generator.manual_seed(seed_of(seed, item, f"view of epoch {epoch}"))
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


def crop_and_flip(images: Tensor, ids: Sequence[str], *, seed: int, epoch: int, padding: int, flip: bool) -> Tensor:
    """Shift every image by up to `padding` pixels in each direction and mirror half of them.

    The shift fills the border by reflection, as cropping a reflection-padded image does (He et al. 2016, who pad
    with zeros).

    Args:
        images: (B, C, H, W) of any type.
        ids: the B image ids.
        seed: the run seed.
        epoch: the epoch; another epoch draws other shifts.
        padding: largest shift in pixels; less than H and W.
        flip: whether to mirror left and right with probability 1/2.

    Raises:
        TrainingError: the padding is not smaller than the image.
    """
    height, width = images.shape[-2:]
    if padding >= min(height, width):
        raise TrainingError(
            "the crop padding must be smaller than the images", expected=f"< {min(height, width)}", got=padding
        )
    shifts = 2 * padding + 1
    tops, lefts, flips = [], [], []
    for item in ids:
        # The three numbers are read off one 63-bit seed as digits; a generator for each image would cost more.
        draw = seed_of(seed, item, f"augmentation of epoch {epoch}")
        draw, top = divmod(draw, shifts)
        draw, left = divmod(draw, shifts)
        tops.append(top - padding)
        lefts.append(left - padding)
        flips.append(flip and draw % 2 == 1)
    rows = _reflected(torch.tensor(tops)[:, None] + torch.arange(height), height)
    columns = _reflected(torch.tensor(lefts)[:, None] + torch.arange(width), width)
    columns = torch.where(torch.tensor(flips)[:, None], columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    batch = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[batch, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _reflected(index: Tensor, length: int) -> Tensor:
    """Fold indices in (-length, 2 length - 1) back into the image, the border pixel not repeated."""
    index = index.abs()
    return torch.where(index >= length, 2 * (length - 1) - index, index)
