"""Images per second of loaders, and of training steps on what they give."""

import argparse
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.common.progress import Progress
from benchmarks.training.loader_contestants import AHEAD, image_folder, on_device, ours, ray_data
from benchmarks.training.loader_files import Files
from stl_ray.models import build_classifier
from stl_ray.training.data.cache import cached_images

Contestants = Mapping[str, Callable[[], Generator[torch.Tensor]]]
"""Batches of images by who gives them."""


def measure_loaders(
    files: Files, loaders: int, options: argparse.Namespace, place: Path, progress: Progress
) -> dict[str, Any]:
    """Images per second of every loader with so many processes: medians of the rounds."""
    warm = 2 * AHEAD * loaders
    count = max(8, 2 * options.images // options.batch)
    rates: dict[str, list[float]] = {"ours": [], "torchvision": []}
    if options.ray_data:
        rates["ray"] = []
    with cached_images(files.dataset, str(place), most_decoded=0) as copy:
        contestants: Contestants = {
            "ours": lambda: ours(copy, options.batch, loaders),
            "torchvision": lambda: image_folder(files, options, loaders, warm + count),
            "ray": lambda: ray_data(files, options, loaders),
        }
        for turn in range(options.rounds):
            for who in rates:
                progress.tell(
                    f"{files.codec}, {loaders} processes, {who}: round {turn + 1} of {options.rounds}", now=True
                )
                batches = contestants[who]()
                rates[who].append(images_per_second(batches, warm, count, len))
                batches.close()
    return {"codec": files.codec, "loaders": loaders, **{who: median(found) for who, found in rates.items()}}


def images_per_second(batches: Iterator[Any], warm: int, count: int, images_of: Callable[[Any], int]) -> float:
    """Images per second after `warm` batches, while the processes start and work ahead; a GPU's work is waited for."""
    for _ in range(warm):
        next(batches)
    _wait()
    start, images = time.perf_counter(), 0
    for _ in range(count):
        images += images_of(next(batches))
    _wait()
    return images / (time.perf_counter() - start)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure_steps(
    files: Files, loaders: int, options: argparse.Namespace, place: Path, progress: Progress
) -> dict[str, Any]:
    """Images per second of training steps, on one batch again and again and on the loader's."""
    device = torch.device("cuda" if options.gpu else "cpu")
    rates: dict[str, list[float]] = {"synthetic": [], "ours": [], "on device": [], "torchvision": []}
    warm, count = 2 * AHEAD * loaders, max(8, options.images // options.batch)
    with cached_images(files.dataset, str(place), most_decoded=0) as copy:
        classifier = build_classifier(options.train, copy.class_names, seed=0).to(device)
        step = _Step(classifier, device)
        contestants: Contestants = {
            "synthetic": lambda: _synthetic(options, device),
            "ours": lambda: ours(copy, options.batch, loaders),
            "on device": lambda: on_device(copy, options.batch, loaders, device),
            "torchvision": lambda: image_folder(files, options, loaders, warm + count),
        }
        for turn in range(options.rounds):
            for who, found in rates.items():
                progress.tell(f"{options.train}, {loaders} processes, {who}: round {turn + 1}", now=True)
                batches = contestants[who]()
                found.append(images_per_second(map(step, batches), warm if options.gpu else 1, count, int))
                batches.close()
    return {"loaders": loaders, **{who: median(found) for who, found in rates.items()}}


class _Step:
    """A step of descent on uint8 images; returns their number."""

    def __init__(self, classifier: nn.Module, device: torch.device) -> None:
        laid_out = classifier.to(memory_format=torch.channels_last).train()
        # Compiled as in the modern recipes: the fastest steps are the hardest to feed.
        self.classifier = torch.compile(laid_out) if device.type == "cuda" else laid_out
        self.device = device
        self.optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    def __call__(self, images: torch.Tensor) -> int:
        moved = images.to(self.device, non_blocking=True).float() / 255
        moved = moved.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self.classifier(moved).float().logsumexp(1).mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return len(images)


def _synthetic(options: argparse.Namespace, device: torch.device) -> Generator[torch.Tensor]:
    images = torch.randint(0, 256, (options.batch, 3, options.size, options.size), dtype=torch.uint8).to(device)
    while True:
        yield images
