"""Our dictionaries beside the authors' published ones, and how many images it takes to learn one.

    python -m benchmarks.learning.authors --output benchmarks/results/dictionaries.md

Run it from the repository's root; `--help` says the rest.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from benchmarks.common.command import command_parser
from benchmarks.common.heldout import judge
from benchmarks.common.images import load_images
from benchmarks.common.pages import command_line, figure_file, publish
from benchmarks.common.progress import Progress
from benchmarks.common.training_images import available, training_images
from benchmarks.learning.authors_page import Fit, Result, figure, report
from benchmarks.learning.learners import METHODS, configuration, ours
from stl_ray.config.spaces import DictionaryConfig
from stl_ray.csc import Dictionary, split_bands

COUNTS = {32: (50, 100, 200, 500, 1000, 2000, 5000), 64: (50, 100, 200, 500, 1000, 2000)}
"""Training images of the curve, by size."""

BLOCKS = (1, 2, 4)
"""Blocks into which the same images are dealt."""

_EXAMPLES = """
what it does, for every size:
  authors     judges the authors' dictionary: CBPDN objective, sparsity and PSNR of clean test images, coded at the
              reference tier
  curve       learns from more and more training images, by both methods, and judges what comes of it on the same test
              images; differences from the authors' are per image, with a 95 % interval
  partition   learns from the same images in 1, 2 and 4 blocks

examples:
  python -m benchmarks.learning.authors --quick
      a look with what is installed: crops of scikit-image's photographs, and patches of them instead of the authors'
  python -m benchmarks.learning.authors --sizes 32 --counts 50 200 800 --partition 0
      three points of the curve
  python -m benchmarks.learning.authors --output benchmarks/results/dictionaries.md
      the whole of it, about half an hour, with dictionaries.png beside it
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it with its figure where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    if options.quick:
        options.data, options.sizes, options.test = None, options.sizes or [32], min(options.test, 8)
        options.counts, options.partition = options.counts or [8, 16], min(options.partition, 16)
    torch.set_num_threads(1)
    progress, start = Progress(), time.monotonic()
    results = [_measure(size, options, progress) for size in options.sizes or (32, 64)]
    link = figure_file(options.output)
    command, took = command_line("benchmarks.learning.authors", given), time.monotonic() - start
    publish(report(results, command, took, link.name if link else None), options.output, figure(results))
    return 0


def _measure(size: int, options: argparse.Namespace, progress: Progress) -> Result:
    own = 8 if options.quick else DictionaryConfig().holdout
    counts, most = sorted(set(options.counts or COUNTS[size])), available(size, options.data)
    if most is not None:
        counts = sorted({min(count, most - own) for count in counts})
    setting = _setting(size, max(*counts, options.partition) + own, options.test, options.data)
    highpass, training = split_bands(setting.test)[1], setting.training
    theirs = judge(setting.dictionary, highpass)

    def fit(method: Literal["consensus", "online"], count: int, block: int) -> Fit:
        progress.tell(f"{size} px: {method}, {count} images in blocks of {block}", now=True)
        images, holdout = training[own : own + count], training[:own]
        learner = ours(images, holdout, configuration(method, images, holdout, block))
        start, steps = time.process_time(), list(learner.begin())
        seconds, (dictionary, converged) = time.process_time() - start, steps[-1]
        return Fit(method, count, block, len(steps), converged, seconds, judge(dictionary, highpass))

    curve = [fit(method, count, DictionaryConfig().block) for method in METHODS for count in counts]
    dealt = options.partition
    partition = [fit(method, dealt, -(-dealt // blocks)) for method in METHODS for blocks in BLOCKS if dealt]
    return Result(size, setting.sources, setting.name, own, len(highpass), theirs, curve, partition)


@dataclass(frozen=True)
class _Setting:
    """Images (N, 3, size, size) to learn from and to judge on, and the authors' dictionary, with words for them."""

    training: Tensor
    test: Tensor
    dictionary: Dictionary
    name: str
    sources: str


def _setting(size: int, training: int, test: int, data: Path | None) -> _Setting:
    """Every other image of `load_images` is clean."""
    if available(size, data) is not None:
        pixels, source = training_images(size, training, data)
        named = load_images(size, 2 * test, data)
        clean, sources = named.pixels[::2], f"{source}, judged on {named.source}"
    else:
        named = load_images(size, 2 * (training + test), data)
        pixels, clean = named.pixels[: 2 * training : 2], named.pixels[2 * training :: 2]
        sources = f"{named.source}, judged on others of them"
    return _Setting(pixels, clean, named.dictionary, named.dictionary_source, sources)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.learning.authors",
        __doc__,
        _EXAMPLES,
        data="train and test splits of cifar10/ and imagenet10/ in Parquet and reference/dictionaries, or any "
        "pictures; default $STL_RAY_DATA, then ../shared/data, then photographs of scikit-image",
    )
    parser.add_argument("--quick", action="store_true", help="8 and 16 crops of photographs at 32 pixels, unless said")
    parser.add_argument(
        "--sizes", type=int, nargs="+", choices=sorted(COUNTS), metavar="PIXELS", help="32, 64 or both (default)"
    )
    parser.add_argument(
        "--counts",
        type=int,
        nargs="+",
        metavar="N",
        help="numbers of training images; default "
        + "; ".join(f"{' '.join(map(str, counts))} at {size} pixels" for size, counts in COUNTS.items())
        + ", or as many as there are",
    )
    parser.add_argument("--test", type=int, default=200, metavar="N", help="test images to judge on (200)")
    parser.add_argument(
        "--partition",
        type=int,
        default=400,
        metavar="N",
        help="training images that are dealt into 1, 2 and 4 blocks (400); 0: leave it out",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
