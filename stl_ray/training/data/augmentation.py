"""Random crops and flips that depend on (seed, epoch, image id), not on batches, workers or the order of work."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stl_ray.errors import TrainingError
from stl_ray.seeding import seed_of


def augment(images: Tensor, ids: Sequence[str], *, seed: int, epoch: int, padding: int, flip: bool) -> Tensor:
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
