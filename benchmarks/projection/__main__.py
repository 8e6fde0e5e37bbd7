"""How fast and how exact T(x) is on this CPU, beside SPORCO as the authors' script runs it.

    python -m benchmarks.projection --output benchmarks/results/projection-cpu.md

Run it from the repository's root on an idle machine; `--help` says the rest.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.common.command import command_parser
from benchmarks.common.images import LMBDA, load_images
from benchmarks.common.pages import command_line, publish
from benchmarks.common.progress import Progress
from benchmarks.projection.contestants import contestants
from benchmarks.projection.measure import measure_errors, measure_split, measure_times
from benchmarks.projection.page import Result, report
from benchmarks.projection.resources import measure_memory, measure_parallel
from stl_ray.runtime.concurrency import bind

PEER_IMAGES = {128: 24, 224: 12}
"""Images that SPORCO gets to see at sizes at which it takes seconds for one."""

BATCH_SECONDS = 1.0
"""About the work in the batch that is shared among threads; never more than all images."""

_EXAMPLES = """
what it does, for every size, with one thread in one process:
  times       every method projects every image in turns; ratios to SPORCO are per image, then medians
  accuracy    the same outputs against the certified optimum (relative duality gap <= 1e-5)
  threads     a batch on one thread and on two, beside bare processes of one thread
  memory      growth of the peak resident set, each method in a process of its own

examples:
  python -m benchmarks.projection --quick
      a minute's look with what is installed: crops of scikit-image's photographs, no data needed
  python -m benchmarks.projection --data ~/pictures --dictionary 64_p8_lm0.2.npy --sizes 64 224
      your own pictures, and a dictionary as a (S, S, C, K) array in BGR order
  python -m benchmarks.projection --output benchmarks/results/projection-cpu.md
      the whole of it, about 20 minutes; leave the machine alone meanwhile (the column "Busy" tells)
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    if options.quick:
        options.data, options.cap = None, 15.0
    options.sizes = options.sizes or ([32, 64] if options.quick else [32, 64, 128, 224])
    options.images = options.images or (4 if options.quick else 100)
    bind(1)
    progress, start = Progress(), time.monotonic()
    results = [_measure(size, options, progress) for size in options.sizes]
    page = report(results, command_line("benchmarks.projection", given), time.monotonic() - start)
    publish(page, options.output)
    return 0


def _measure(size: int, options: argparse.Namespace, progress: Progress) -> Result:
    images = load_images(size, options.images, options.data, options.dictionary)
    methods = contestants(images.dictionary, LMBDA)
    progress.tell(f"{size} px: {', '.join(method.name for method in methods)}", now=True)
    peer_images = options.images if options.peer_images is None else options.peer_images
    if options.peer_images is None:
        peer_images = min(peer_images, PEER_IMAGES.get(size, peer_images))
    records, outcomes = measure_times(images, methods, peer_images, options.cap, progress)
    split = measure_split(images)
    optima = measure_errors(images, LMBDA, records, outcomes, options.images, options.cap, progress)
    parallel, seconds = {}, 0.1 if options.quick else 2.0
    for method, record in zip(methods[1:3], records[1:3], strict=True):
        progress.tell(f"{size} px: threads, {method.name}", now=not options.quick)
        took = sum(record.milliseconds.values()) / 1e3 / len(record.milliseconds)
        batch = images.pixels[: max(2, int(BATCH_SECONDS / took))]
        parallel[method.name] = measure_parallel(batch, images.dictionary, LMBDA, method.method, method.tier, seconds)
    progress.tell(f"{size} px: memory", now=not options.quick)
    memory = [measure_memory(m.method, m.tier, images.pixels, images.dictionary, LMBDA) for m in methods]
    return Result(size, images, methods, records, split, optima, parallel, memory)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.projection",
        __doc__,
        _EXAMPLES,
        data="cifar10/test-*.parquet and imagenet10/val-*.parquet, or any pictures; default $STL_RAY_DATA, then "
        "../shared/data, then photographs of scikit-image",
    )
    parser.add_argument(
        "--quick", action="store_true", help="4 crops of photographs at 32 and at 64 pixels, unless said"
    )
    parser.add_argument("--sizes", type=int, nargs="+", metavar="PIXELS", help="default 32 64 128 224")
    parser.add_argument("--images", type=int, metavar="N", help="per size, half of them noisy; default 100")
    parser.add_argument(
        "--dictionary",
        type=Path,
        metavar="FILE",
        help="a .npy file like the authors'; default FOLDER/reference/dictionaries, then patches of the images",
    )
    parser.add_argument(
        "--peer-images",
        type=int,
        metavar="N",
        help="images per size that SPORCO gets; default all, 24 at 128 pixels and 12 at 224, where it takes seconds",
    )
    parser.add_argument(
        "--cap",
        type=float,
        default=150,
        metavar="SECONDS",
        help="per size, no further image for SPORCO after this, nor for the certified optimum (150); the tables say how "
        "many images each came to",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
