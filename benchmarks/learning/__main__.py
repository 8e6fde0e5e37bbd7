"""CPU time of dictionary learning against the objective of held-out images, beside SPORCO.

    python -m benchmarks.learning --output benchmarks/results/learning.md

Run it from the repository's root on an idle machine; `--help` says the rest.
"""

import argparse
import sys
import time

import torch

from benchmarks.common.command import command_parser
from benchmarks.common.pages import command_line, figure_file, publish
from benchmarks.common.progress import Progress
from benchmarks.common.training_images import training_images
from benchmarks.learning.learners import PEER_ITERATIONS, PEER_PASSES, learners
from benchmarks.learning.page import Result, figure, report
from benchmarks.learning.race import measure_threads, race
from stl_ray.csc import split_bands

IMAGES = {32: 160, 64: 32}
"""Images to learn from, by size: SPORCO's consensus then takes about four minutes for each."""

HELD = 40
"""Images on which dictionaries are judged."""

THREAD_ITERATIONS = 6
"""Outer iterations in which one thread is compared with two."""

BLOCKS = 4
"""Blocks of our methods, as many as a thousand images make by default."""

_EXAMPLES = f"""
what it does, for every size, with one thread in one process:
  race        SPORCO's consensus learner ({PEER_ITERATIONS} iterations of its colour example), its online learner
              ({PEER_PASSES} passes) and ours, one after the other on the same images; the clock is the CPU time of the
              process and stands still while the dictionary is judged
  judge       the CBPDN objective of {HELD} further images, coded by our solver at the reference tier, for all alike
  threads     the first iterations of our methods on one thread and on two, wall time

examples:
  python -m benchmarks.learning --quick
      a look with what is installed: crops of scikit-image's photographs, SPORCO cut off after 5 s
  python -m benchmarks.learning --sizes 32 --images 40 --cap 60
      a few minutes
  python -m benchmarks.learning --output benchmarks/results/learning.md
      the whole of it, about 12 minutes (with --patches 20), with learning.png beside it; leave the machine alone
      meanwhile (the column "Busy" tells)
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it with its figure where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    if options.quick:
        options.data, options.cap = None, min(options.cap, 5.0)
    options.sizes = options.sizes or ([32] if options.quick else [32, 64])
    torch.set_num_threads(1)
    progress, start = Progress(), time.monotonic()
    results = [_measure(size, options, progress) for size in options.sizes]
    link = figure_file(options.output)
    page = report(
        results,
        command_line("benchmarks.learning", given),
        time.monotonic() - start,
        options.cap,
        link.name if link else None,
    )
    publish(page, options.output, figure(results))
    return 0


def _measure(size: int, options: argparse.Namespace, progress: Progress) -> Result:
    count = options.images or (16 if options.quick else IMAGES[size])
    own, held = max(8, count // 16), 8 if options.quick else HELD
    pixels, source = training_images(size, count + own + held, options.data)
    images, holdout, judged = pixels[:count], pixels[count : count + own], pixels[count + own :]
    block, highpass, runs = -(-count // BLOCKS), split_bands(judged)[1], []
    for learner in learners(images, holdout, block, options.patches):
        progress.tell(f"{size} px: {learner.name}", now=True)
        runs.append(race(learner, highpass, options.cap if learner.peer or options.quick else None, progress))
    progress.tell(f"{size} px: threads", now=True)
    few = 1 if options.quick else THREAD_ITERATIONS
    threads = measure_threads(images, holdout, block, few)
    return Result(size, source, count, own, held, block, runs, threads, few)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.learning",
        __doc__,
        _EXAMPLES,
        data="cifar10/train-*.parquet and imagenet10/train-*.parquet, or any pictures; default $STL_RAY_DATA, then "
        "../shared/data, then photographs of scikit-image",
    )
    parser.add_argument(
        "--quick", action="store_true", help="16 crops of photographs at 32 pixels, every learner for 5 s, unless said"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", choices=sorted(IMAGES), metavar="PIXELS", help="32, 64 or both (default)"
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        help="to learn from, at every size; default "
        + ", ".join(f"{count} at {size} pixels" for size, count in IMAGES.items()),
    )
    parser.add_argument(
        "--patches",
        action="store_true",
        help="SPORCO's consensus learner once more, begun with random patches of the images as ours are, instead of "
        "with random numbers: how much of a difference the beginning makes",
    )
    parser.add_argument(
        "--cap",
        type=float,
        default=400,
        metavar="SECONDS",
        help="CPU time after which SPORCO is cut off, for each of its learners and sizes (400); the page says where it "
        "was, and compares with the objective that it had by then",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
