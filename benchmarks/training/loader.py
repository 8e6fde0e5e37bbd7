"""How fast training gets its images, beside torchvision's ImageFolder, Ray Data, and steps that wait for nothing.

    python -m benchmarks.training.loader --output benchmarks/results/loader-cpu.md
    python -m benchmarks.training.loader --train torchvision:resnet50 --gpu --loaders 8 14 --output benchmarks/results/loader-gpu.md

Run it from the repository's root on an idle machine; `--help` says the rest.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common.command import command_parser
from benchmarks.common.pages import command_line, publish
from benchmarks.common.progress import Progress
from benchmarks.training.loader_files import jpegs, written
from benchmarks.training.loader_order import measure_reading
from benchmarks.training.loader_page import report
from benchmarks.training.loader_rates import measure_loaders, measure_steps

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


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    torch.set_num_threads(1)
    progress, start = Progress(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="loader-") as place:
        images, source = jpegs(options.size, options.images, options.data)
        kinds = [written(codec, images, Path(place)) for codec in options.codecs]
        tables = [
            measure_loaders(files, loaders, options, Path(place), progress)
            for files in kinds
            for loaders in options.loaders
        ]
        reading = [measure_reading(files, options.seconds, progress) for files in kinds]
        steps = [
            measure_steps(kinds[0], loaders, options, Path(place), progress)
            for loaders in options.loaders
            if options.train
        ]
    page = report(
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
    parser.add_argument("--seconds", type=float, default=5, help="of reading rows in a random order [5]")
    parser.add_argument("--ray-data", action="store_true", help="also Ray Data, in a local Ray")
    parser.add_argument("--train", metavar="NAME", help="also steps of this classifier")
    parser.add_argument("--gpu", action="store_true", help="steps on a GPU, in bfloat16")
    return parser


if __name__ == "__main__":
    sys.exit(main())
