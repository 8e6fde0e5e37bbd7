"""The loaders' rates as Markdown."""

import argparse
import time
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.common.pages import processor, table
from benchmarks.training.loader_files import Files
from benchmarks.training.loader_order import IMAGENET, classes_per_batch


def report(
    options: argparse.Namespace,
    source: str,
    kinds: list[Files],
    tables: list[dict[str, Any]],
    reading: list[dict[str, Any]],
    steps: list[dict[str, Any]],
    command: str,
    start: float,
) -> str:
    """The whole page."""
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
