"""The batches of a training, ahead of its steps: read, decoded and (unless the device does it) augmented in processes of
torch's DataLoader.

The images of a batch, their augmentation and their ranks depend on (seed, epoch, step) and the ids alone. So a training
that resumes from a checkpoint sees the same batches as an uninterrupted one, with any number of loaders; with another
number of ranks the batches are the same, and each rank takes another part of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stl_ray.config.training import TrainConfig
from stl_ray.errors import StlRayError
from stl_ray.training.data.augmentation import augment
from stl_ray.training.data.batches import batch_count, epoch_batches, rank_part
from stl_ray.training.data.source import TrainingImages

ITEM = "classifier"
"""The name, for seeds, of what is trained."""

_AHEAD = 4  # batches that every loader has in hand


@dataclass(frozen=True)
class Batch:
    """One rank's part of a batch."""

    epoch: int
    """From 0."""
    step: int
    """Of the epoch, from 0."""
    size: int
    """Images of the whole batch, over all ranks."""
    indices: list[int]
    images: Tensor
    """(B, 3, h, w) uint8; augmented, if the recipe has the loaders do it."""


@dataclass(frozen=True)
class Share:
    """One of the ranks that train together."""

    rank: int = 0
    world_size: int = 1


def training_batches(
    images: TrainingImages,
    config: TrainConfig,
    share: Share,
    *,
    seed: int,
    start: tuple[int, int] = (0, 0),
    pinned: bool = False,
) -> Iterator[Batch]:
    """This rank's parts of the batches of all epochs, one after the other.

    Args:
        images: the training images.
        config: the recipe; `loader_processes` work ahead, across the ends of epochs too.
        share: the rank.
        seed: the run seed.
        start: epoch and step of the first batch.
        pinned: whether images are in pinned memory, from which copies to a GPU do not wait.

    Raises:
        StlRayError: an image cannot be read or augmented; the error that the loader met.
    """
    parts = _AllParts(len(images.labels), config, share, seed, start)
    return _loaded(_Parts(images, config, seed), parts, config.loader_processes, pinned)


def validation_batches(
    images: TrainingImages, config: TrainConfig, share: Share, *, pinned: bool = False
) -> Iterator[Batch]:
    """This rank's part of the images, not augmented, in batches of its own; every image once over all ranks."""
    mine = torch.arange(len(images.labels))[share.rank :: share.world_size]
    each = max(1, config.batch_size // share.world_size)
    parts = [(-1, step, len(part), part.tolist()) for step, part in enumerate(torch.split(mine, each)) if len(part)]
    return _loaded(_Parts(images, config, 0), parts, config.loader_processes, pinned)


Part = tuple[int, int, int, list[int]]
"""Epoch (-1: not augmented), step, size of the whole batch, indices."""


@dataclass(frozen=True)
class _AllParts:
    """Parts of all epochs, for DataLoader's sampler: an epoch's order is drawn when it is reached."""

    count: int
    config: TrainConfig
    share: Share
    seed: int
    start: tuple[int, int]

    def __iter__(self) -> Iterator[Part]:
        epoch, first = self.start
        while epoch < self.config.epochs:
            batches = epoch_batches(self.count, self.config.batch_size, epoch=epoch, seed=self.seed, item=ITEM)
            for step, batch in enumerate(batches[first:], start=first):
                mine = rank_part(batch, rank=self.share.rank, world_size=self.share.world_size)
                yield epoch, step, len(batch), mine.tolist()
            epoch, first = epoch + 1, 0

    def __len__(self) -> int:
        epoch, first = self.start
        return (self.config.epochs - epoch) * batch_count(self.count, self.config.batch_size) - first


class _Parts(Dataset[Any]):
    """Maps a part to its `Batch`, or to the error that it met: returned, not raised, it keeps its attributes."""

    def __init__(self, images: TrainingImages, config: TrainConfig, seed: int) -> None:
        self._images, self._config, self._seed = images, config, seed

    def __getitem__(self, part: Part) -> Any:
        epoch, step, size, indices = part
        try:
            pixels = self._images.pixels(indices)
            if epoch >= 0 and self._config.augment_on == "loaders":
                pixels = augment(pixels, self._images.ids(indices), self._config, seed=self._seed, epoch=epoch)
            return epoch, step, size, indices, pixels
        except StlRayError as error:
            return error


def _loaded(dataset: _Parts, parts: Any, processes: int, pinned: bool) -> Iterator[Batch]:
    if processes:
        # The server that forks the loaders imports these once; each loader alone would take a second and 0.4 GB for it.
        get_context("forkserver").set_forkserver_preload(["__main__", __name__, "torchvision.transforms.v2"])
    loader: DataLoader[Any] = DataLoader(
        dataset,
        sampler=parts,
        batch_size=None,
        num_workers=processes,
        prefetch_factor=_AHEAD if processes else None,
        # A fork of a process with Ray's threads may hang.
        multiprocessing_context="forkserver" if processes else None,
        worker_init_fn=_one_thread,
        pin_memory=pinned,
        generator=torch.Generator(),  # its draws are unused, and must not advance the global generator
        collate_fn=_as_it_is,
    )
    for item in loader:
        if isinstance(item, StlRayError):
            raise item
        yield Batch(*item)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _as_it_is(item: Any) -> Any:
    return item
