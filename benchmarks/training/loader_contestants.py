"""Who loads images: ours, torchvision's DataLoader over a folder, and Ray Data. All give batches, (B, 3, H, W) uint8."""

import argparse
import io
import logging
from collections.abc import Generator
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler

from benchmarks.training.loader_files import Files
from stl_ray.config import TrainConfig
from stl_ray.training import Share
from stl_ray.training.data.augmentation import augment
from stl_ray.training.data.cache import CachedImages
from stl_ray.training.data.loader import training_batches

AHEAD = 4
"""Batches that a loader's process has in hand, ours and torchvision's."""


def recipe_of(batch: int, loaders: int, augment_on: Literal["loaders", "device"] = "loaders") -> TrainConfig:
    """The same views for all: a random part of 8 to 100 % of the image, resized, mirrored by chance."""
    return TrainConfig(
        epochs=10_000, batch_size=batch, loaders=loaders, random_resized_crop=0.08, augment_on=augment_on
    )


def ours(images: CachedImages, batch: int, loaders: int) -> Generator[torch.Tensor]:
    """`training_batches` of a node's copy."""
    for item in training_batches(images, recipe_of(batch, loaders), Share(), seed=0, pinned=torch.cuda.is_available()):
        yield item.images


def on_device(images: CachedImages, batch: int, loaders: int, device: torch.device) -> Generator[torch.Tensor]:
    """The same, with the views made on the device, between the steps."""
    recipe = recipe_of(batch, loaders, "device")
    for item in training_batches(images, recipe, Share(), seed=0, pinned=device.type == "cuda"):
        moved = item.images.to(device, non_blocking=True)
        yield augment(moved, images.ids(item.indices), recipe, seed=0, epoch=item.epoch)


def image_folder(files: Files, options: argparse.Namespace, loaders: int, batches: int) -> Generator[torch.Tensor]:
    """Torchvision's ImageFolder, `batches` of it."""
    from torchvision import datasets, transforms

    steps = [transforms.RandomResizedCrop(options.size), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    dataset = datasets.ImageFolder(str(files.folder), transforms.Compose(steps))
    sampler = RandomSampler(dataset, num_samples=batches * options.batch)
    loader = DataLoader(
        dataset, options.batch, sampler=sampler, num_workers=loaders, prefetch_factor=AHEAD, worker_init_fn=_one_thread
    )
    for images, _ in loader:
        yield images


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def ray_data(files: Files, options: argparse.Namespace, loaders: int) -> Generator[torch.Tensor]:
    """Ray Data on a local Ray of its own, epoch after epoch."""
    import ray

    recipe = recipe_of(options.batch, 0)

    def view(batch: dict[str, Any]) -> dict[str, Any]:
        torch.set_num_threads(1)
        decoded = np.stack(
            [np.asarray(Image.open(io.BytesIO(item["bytes"])).convert("RGB")) for item in batch["image"]]
        )
        pixels = torch.from_numpy(decoded).permute(0, 3, 1, 2)
        return {"image": augment(pixels, list(batch["id"]), recipe, seed=0, epoch=0).permute(0, 2, 3, 1).numpy()}

    ray.init(address="local", num_cpus=loaders + 1, include_dashboard=False, log_to_driver=False,
             logging_level=logging.ERROR, object_store_memory=2**30)  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        parts = [files.dataset.storage.at(part["file"]) for part in files.dataset.parts]
        data = ray.data.read_parquet(parts, override_num_blocks=len(parts)).map_batches(
            view, batch_size=options.batch, concurrency=loaders
        )
        while True:  # an epoch after the other
            for batch in data.random_shuffle().iter_batches(batch_size=options.batch, prefetch_batches=AHEAD * loaders):
                yield torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)
    finally:
        ray.shutdown()
