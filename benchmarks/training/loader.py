"""How fast training gets its images, beside torchvision's ImageFolder, Ray Data, and steps that wait for nothing.

    python -m benchmarks.training.loader --output benchmarks/results/loader-cpu.md
    python -m benchmarks.training.loader --train resnet50 --gpu --loaders 8 14 --output benchmarks/results/loader-gpu.md

Run it from the repository's root on an idle machine; `--help` says the rest.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from benchmarks.common.command import command_parser
from benchmarks.common.images import load_images
from benchmarks.common.pages import command_line, processor, publish, table
from benchmarks.common.progress import Progress
from stl_ray.config import TrainConfig
from stl_ray.images import encode_png, image_schema, to_uint8
from stl_ray.models import build_classifier
from stl_ray.store import Dataset, PlannedShard, Run, Storage
from stl_ray.training import CachedImages, Share, cached_images
from stl_ray.training.data.augmentation import augment
from stl_ray.training.data.batches import permutation
from stl_ray.training.data.loader import training_batches

AHEAD = 4
"""Batches that a loader's process has in hand, ours and torchvision's."""

IMAGENET = 1_281_167
CLASSES = 1000
ROW_GROUP = 256

_EXAMPLES = """
what it does:
  loaders     images per second, decoded, cropped at random, resized and mirrored, by ours and by torchvision's DataLoader
              with ImageFolder over the same files, with the same number of processes, in turns; and by Ray Data (--ray-data)
  reading     rows in a random order straight from Parquet row groups, which is why training copies images first
  order       how many classes a batch of ImageNet has, by order of reading: data sorted by class, as folders are
  steps       with --train: steps on images that are there already, and steps on the loader's, in turns

examples:
  python -m benchmarks.training.loader --images 400 --rounds 1
      a minute's look
  python -m benchmarks.training.loader --ray-data --output benchmarks/results/loader-cpu.md
      the whole of it on a CPU, some ten minutes; leave the machine alone meanwhile
"""


@dataclass(frozen=True)
class Files:
    """The same images as a dataset and as a folder per class.

    Attributes:
        codec: jpeg or png.
        dataset: shards of 500 rows.
        folder: one folder per class.
        size: mean bytes of an image.
    """

    codec: str
    dataset: Dataset
    folder: Path
    size: float


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    torch.set_num_threads(1)
    progress, start = Progress(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="loader-") as place:
        images, source = _images(options.size, options.images, options.data)
        kinds = [_written(codec, images, Path(place)) for codec in options.codecs]
        tables = [
            _loaders(files, loaders, options, Path(place), progress) for files in kinds for loaders in options.loaders
        ]
        reading = [_reading(files, progress) for files in kinds]
        steps = [
            _steps(kinds[0], loaders, options, Path(place), progress) for loaders in options.loaders if options.train
        ]
    page = _page(
        options, source, kinds, tables, reading, steps, command_line("benchmarks.training.loader", given), start
    )
    publish(page, options.output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.training.loader", __doc__, _EXAMPLES, data="folder of images; see benchmarks.common.images"
    )
    parser.add_argument("--images", type=int, default=2000, help="different images [2000]")
    parser.add_argument("--size", type=int, default=224, help="pixels a side [224]")
    parser.add_argument("--batch", type=int, default=64, help="images per batch [64]")
    parser.add_argument("--loaders", type=int, nargs="+", default=[1, 2], help="processes [1 2]")
    parser.add_argument("--codecs", nargs="+", default=["jpeg", "png"], choices=["jpeg", "png"], help="[jpeg png]")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant [3]")
    parser.add_argument("--ray-data", action="store_true", help="also Ray Data, in a local Ray")
    parser.add_argument("--train", metavar="NAME", help="also steps of this classifier")
    parser.add_argument("--gpu", action="store_true", help="steps on a GPU, in bfloat16")
    return parser


def _images(size: int, count: int, data: Path | None) -> tuple[list[tuple[bytes, int]], str]:
    """JPEG bytes and a class of every image."""
    shards = sorted(data.glob("imagenet10/train-*.parquet")) if data is not None else []
    if shards and size == 224:
        table = pa.concat_tables([pq.read_table(path, columns=["image", "label"]) for path in shards]).slice(0, count)
        rows = [
            (image["bytes"], label) for image, label in zip(*map(pa.ChunkedArray.to_pylist, table.columns), strict=True)
        ]
        return rows, "ImageNet training images of ten classes"
    found = load_images(size, count, None)
    jpegs = []
    for number, pixels in enumerate(to_uint8(found.pixels)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=90)
        jpegs.append((buffer.getvalue(), number % 10))
    return jpegs, found.source


def _written(codec: str, images: list[tuple[bytes, int]], place: Path) -> Files:
    folder = place / codec / "folder"
    rows = []
    for number, (jpeg, label) in enumerate(images):
        data = jpeg if codec == "jpeg" else encode_png(np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")))
        path = folder / f"{label:03d}" / f"{number:06d}.{codec}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows.append({"id": f"{number:06d}", "image": {"bytes": data, "path": None}, "label": label})
    names = [f"{label:03d}" for label in range(1 + max(label for _, label in images))]
    table = pa.Table.from_pylist(rows, schema=image_schema("image", names))
    run = Run(Storage.open(str(place / codec / "run")), "ingest", "train")
    starts = range(0, len(rows), 500)
    plan = [PlannedShard(n, {}, min(500, len(rows) - begin), str(n)) for n, begin in enumerate(starts)]
    run.start(plan, identity={}, environment={})
    for shard, begin in zip(plan, starts, strict=True):
        run.publish(shard, table.slice(begin, shard.rows), [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)
    dataset = Dataset.open(run.storage.root)
    return Files(codec, dataset, folder, sum(len(row["image"]["bytes"]) for row in rows) / len(rows))


def _recipe(batch: int, loaders: int, augment_on: Literal["loaders", "device"] = "loaders") -> TrainConfig:
    return TrainConfig(
        epochs=10_000, batch_size=batch, loaders=loaders, random_resized_crop=0.08, augment_on=augment_on
    )


def _rate(batches: Iterator[Any], warm: int, count: int, images_of: Callable[[Any], int]) -> float:
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


def _loaders(files: Files, loaders: int, options: Any, place: Path, progress: Progress) -> dict[str, Any]:
    warm = 2 * AHEAD * loaders
    count = max(8, 2 * options.images // options.batch)
    rates: dict[str, list[float]] = {"ours": [], "torchvision": []}
    if options.ray_data:
        rates["ray"] = []
    with cached_images(files.dataset, str(place), most_decoded=0) as images:
        for turn in range(options.rounds):
            for who in rates:
                progress.tell(
                    f"{files.codec}, {loaders} processes, {who}: round {turn + 1} of {options.rounds}", now=True
                )
                contestant = {"ours": lambda: _ours(images, options.batch, loaders),
                              "torchvision": lambda: _torchvision(files, options, loaders, warm + count),
                              "ray": lambda: _ray(files, options, loaders)}[who]  # fmt: skip
                batches = contestant()
                rates[who].append(_rate(batches, warm, count, len))
                batches.close()
    return {"codec": files.codec, "loaders": loaders, **{who: median(found) for who, found in rates.items()}}


def _ours(images: CachedImages, batch: int, loaders: int) -> Iterator[torch.Tensor]:
    for item in training_batches(images, _recipe(batch, loaders), Share(), seed=0, pinned=torch.cuda.is_available()):
        yield item.images


def _on_device(images: CachedImages, batch: int, loaders: int, device: torch.device) -> Iterator[torch.Tensor]:
    recipe = _recipe(batch, loaders, "device")
    for item in training_batches(images, recipe, Share(), seed=0, pinned=device.type == "cuda"):
        moved = item.images.to(device, non_blocking=True)
        yield augment(moved, images.ids(item.indices), recipe, seed=0, epoch=item.epoch)


def _torchvision(files: Files, options: Any, loaders: int, batches: int) -> Iterator[torch.Tensor]:
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


def _ray(files: Files, options: Any, loaders: int) -> Iterator[torch.Tensor]:
    import ray

    recipe = _recipe(options.batch, 0)

    def view(batch: dict[str, Any]) -> dict[str, Any]:
        torch.set_num_threads(1)
        decoded = np.stack(
            [np.asarray(Image.open(io.BytesIO(item["bytes"])).convert("RGB")) for item in batch["image"]]
        )
        pixels = torch.from_numpy(decoded).permute(0, 3, 1, 2)
        return {"image": augment(pixels, list(batch["id"]), recipe, seed=0, epoch=0).permute(0, 2, 3, 1).numpy()}

    ray.init(address="local", num_cpus=loaders + 1, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
             object_store_memory=2**30)  # fmt: skip
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


def _reading(files: Files, progress: Progress) -> dict[str, Any]:
    """Encoded images per second, of one thread: in a random order from row groups, and from the copy."""
    progress.tell(f"{files.codec}: rows in a random order from row groups", now=True)
    groups = []
    for part in files.dataset.parts:
        file = pq.ParquetFile(files.dataset.storage.at(part["file"]))
        groups += [(file, group, file.metadata.row_group(group).num_rows) for group in range(file.num_row_groups)]
    places = [(group, row) for group, (_, _, rows) in enumerate(groups) for row in range(rows)]
    order = permutation(len(places), seed=0, item="benchmark", purpose="reading").tolist()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 5:
        group, row = places[order[count % len(order)]]
        file, index, _ = groups[group]
        file.read_row_group(index, columns=["image"]).column("image")[row].as_py()
        count += 1
    direct = count / (time.perf_counter() - start)
    copied, bytes_read = time.perf_counter(), 0
    with (
        tempfile.TemporaryDirectory(prefix="loader-") as place,
        cached_images(files.dataset, place, most_decoded=0) as images,
    ):
        seconds = time.perf_counter() - copied
        begin = time.perf_counter()
        starts, lengths = (images._index.column(name).to_numpy() for name in ("start", "length"))
        for number in order:
            bytes_read += len(images._bytes[starts[number] : starts[number] + lengths[number]].tobytes())
        mapped = len(order) / (time.perf_counter() - begin)
    rate = bytes_read / seconds / 2**20
    return {"codec": files.codec, "row groups": direct, "copy": mapped, "copying, MiB/s": rate}


def classes_per_batch(window: int | None, batch: int = 256) -> float:
    """Mean number of different classes in a batch of ImageNet that lies sorted by class.

    Args:
        window: row groups, drawn at random, whose rows are shuffled together; None: all rows.
        batch: images.
    """
    labels = np.sort(np.arange(IMAGENET) % CLASSES)
    generator = np.random.default_rng(0)
    if window is None:
        order = generator.permutation(IMAGENET)
    else:
        groups = np.array_split(np.arange(IMAGENET), -(-IMAGENET // ROW_GROUP))
        shuffled = generator.permutation(len(groups))
        order = np.concatenate(
            [
                generator.permutation(np.concatenate([groups[g] for g in shuffled[begin : begin + window]]))
                for begin in range(0, len(groups), window)
            ]
        )
    batches = labels[order][: IMAGENET // batch * batch].reshape(-1, batch)
    batches.sort(axis=1)
    return float((1 + (np.diff(batches, axis=1) > 0).sum(axis=1)).mean())


def _steps(files: Files, loaders: int, options: Any, place: Path, progress: Progress) -> dict[str, Any]:
    """Images per second of training steps, on one batch again and again and on the loader's."""
    device = torch.device("cuda" if options.gpu else "cpu")
    rates: dict[str, list[float]] = {"synthetic": [], "ours": [], "on device": [], "torchvision": []}
    warm, count = 2 * AHEAD * loaders, max(8, options.images // options.batch)
    with cached_images(files.dataset, str(place), most_decoded=0) as images:
        classifier = build_classifier(options.train, images.class_names, seed=0).to(device)
        step = _Step(classifier, device)
        for turn in range(options.rounds):
            for who, found in rates.items():
                progress.tell(f"{options.train}, {loaders} processes, {who}: round {turn + 1}", now=True)
                batches = {"synthetic": lambda: _synthetic(options, device),
                           "ours": lambda: _ours(images, options.batch, loaders),
                           "on device": lambda: _on_device(images, options.batch, loaders, device),
                           "torchvision": lambda: _torchvision(files, options, loaders, warm + count)}[who]()  # fmt: skip
                found.append(_rate(map(step, batches), warm if options.gpu else 1, count, int))
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


def _synthetic(options: Any, device: torch.device) -> Iterator[torch.Tensor]:
    images = torch.randint(0, 256, (options.batch, 3, options.size, options.size), dtype=torch.uint8).to(device)
    while True:
        yield images


def _page(
    options: Any,
    source: str,
    kinds: list[Files],
    tables: list[dict[str, Any]],
    reading: list[dict[str, Any]],
    steps: list[dict[str, Any]],
    command: str,
    start: float,
) -> str:
    versions = {name: version(name) for name in ("stl-ray", "torch", "torchvision", "pillow", "ray", "pyarrow")}
    device = f"; {torch.cuda.get_device_name()}" if options.gpu else ""
    heads = ["Codec", "Processes", "Ours, images/s", "ImageFolder, images/s", "Ratio"]
    rows = []
    for row in tables:
        cells = [row["codec"], str(row["loaders"]), f"{row['ours']:.0f}", f"{row['torchvision']:.0f}"]
        cells.append(f"{row['ours'] / row['torchvision']:.2f}")
        rows.append(cells + ([f"{row['ray']:.0f}", f"{row['ours'] / row['ray']:.2f}"] if "ray" in row else []))
    heads += ["Ray Data, images/s", "Ratio"] if options.ray_data else []
    sizes = ", ".join(f"{files.codec} of {files.size / 1024:.1f} KiB" for files in kinds)
    blocks = [
        "# Loading images for training",
        f"`{command}`",
        f"{processor()}{device}; {', '.join(f'{name} {number}' for name, number in versions.items())}; took "
        f"{time.monotonic() - start:.0f} s. {options.images} images of {options.size} pixels ({source}): {sizes}; batches of "
        f"{options.batch}. Medians of {options.rounds} rounds in turns.",
        "## Loaders",
        "Decoded, cropped at random (0.08 to 1 of the area), resized and mirrored, on so many processes, after they have "
        "started. Ours: `training_batches` on a node's copy of the shards, every image's view by (seed, epoch, id). "
        "ImageFolder: torchvision's DataLoader with its PIL transforms, over the same bytes as files."
        + (
            " Ray Data: the same shards, the same views in `map_batches` on so many tasks, and one CPU more; its full shuffle ends "
            "every epoch before the next begins, which weighs more the fewer images there are." * options.ray_data
        ),
        table(heads, rows),
        "## Reading in a random order",
        "Encoded images per second of one thread, in an order that is free: each from its Parquet row group of 256, and from "
        "the copy that training makes on the node's disk (in the page cache here); and how fast the copy is made, its "
        "digests checked.",
        table(
            ["Codec", "Row groups, images/s", "Copy, images/s", "Copying, MiB/s"],
            [
                [row["codec"], f"{row['row groups']:.0f}", f"{row['copy']:.0f}", f"{row['copying, MiB/s']:.0f}"]
                for row in reading
            ],
        ),
        "## Order",
        f"Mean number of different classes in a batch of 256, of ImageNet's {IMAGENET} images sorted by class, as `ingest` "
        "takes them from folders; row groups of 256 are drawn at random, and so many of them shuffled together in memory. "
        "All: the order that training has.",
        table(
            ["16 groups", "64 groups", "256 groups", "All"],
            [[f"{classes_per_batch(window):.0f}" for window in (16, 64, 256, None)]],
        ),
    ]
    if steps:
        blocks += [
            "## Steps",
            f"Images per second of training steps of {options.train}"
            + (" in bfloat16, channels_last" if options.gpu else ", channels_last")
            + f", {kinds[0].codec}: on one batch that is there already, on our loader's, on our loader's with the views "
            "made between the steps (`augment_on: device`), and on ImageFolder's; in brackets the share of the first.",
            table(
                ["Processes", "Synthetic", "Ours", "Ours, augmented on the device", "ImageFolder"],
                [
                    [str(row["loaders"]), f"{row['synthetic']:.1f}"]
                    + [
                        f"{row[who]:.1f} ({row[who] / row['synthetic']:.2f})"
                        for who in ("ours", "on device", "torchvision")
                    ]
                    for row in steps
                ],
            ),
        ]
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    sys.exit(main())
