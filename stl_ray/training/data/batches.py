"""The order in which an epoch visits the images, and its batches."""

import torch
from torch import Tensor

from stl_ray.seeding import seed_of


def permutation(length: int, *, seed: int, item: str, purpose: str) -> Tensor:
    """A random order of `length` items, (length,) int64 on the CPU; `seed_of` gives its seed."""
    generator = torch.Generator().manual_seed(seed_of(seed, item, purpose))
    return torch.randperm(length, generator=generator)


def batch_count(images: int, batch_size: int) -> int:
    """The fewest batches of at most `batch_size` images that hold all of them."""
    return -(-images // batch_size)


def smallest_part(images: int, batch_size: int, workers: int) -> int:
    """The fewest images of a batch that a worker gets in an epoch, as `epoch_batches` and `rank_part` deal them."""
    return images // batch_count(images, batch_size) // workers


def epoch_batches(images: int, batch_size: int, *, epoch: int, seed: int, item: str) -> list[Tensor]:
    """The batches of one epoch: indices of images, each exactly once, in an order of (seed, item, epoch).

    The images are dealt to `batch_count` batches as equally as possible. A short last batch would have to be dropped, or
    its images' gradients would count for more and its statistics would be poor ones for batch norm.

    Args:
        images: number of images, >= 1.
        batch_size: most images in a batch.
        epoch: number of the epoch.
        seed: the run seed.
        item: the name of what is being trained.
    """
    order = permutation(images, seed=seed, item=item, purpose=f"order of epoch {epoch}")
    return list(order.tensor_split(batch_count(images, batch_size)))


def rank_part(batch: Tensor, *, rank: int, world_size: int) -> Tensor:
    """The items of a batch that one worker takes; over all ranks every item once."""
    return batch[rank::world_size]
