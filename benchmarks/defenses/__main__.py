"""How fast defenses are on this CPU, beside the formulations that they come from.

    python -m benchmarks.defenses --output benchmarks/results/defenses-speed.md

Run it from the repository's root on an idle machine; `--help` says the rest.
"""

import argparse
import sys
import time

from benchmarks.common.command import command_parser
from benchmarks.common.pages import command_line, publish
from benchmarks.common.progress import Progress
from benchmarks.defenses import every, tvm
from benchmarks.defenses.page import report
from stl_ray.defenses import DEFENSES
from stl_ray.runtime.concurrency import bind

_EXAMPLES = """
examples:
  python -m benchmarks.defenses --quick
      a look with what is installed: crops of scikit-image's photographs at 32 pixels
  python -m benchmarks.defenses --defenses tvm --sizes 224
  python -m benchmarks.defenses --output benchmarks/results/defenses-speed.md
      the whole of it, ten minutes
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    if options.quick:
        options.data, options.sizes, options.rounds = None, options.sizes or [32], 1
        options.images = options.images or 4
    bind(1)
    progress, start = Progress(), time.monotonic()
    names, sizes = options.defenses or list(DEFENSES), options.sizes or [32, 224]
    given_to_all = sizes, options.rounds, options.data, options.images
    comparisons = [every.compare(names, *given_to_all, small=options.quick, tell=progress.tell)]
    if "tvm" in names:
        progress.tell("tvm in detail", now=True)
        comparisons.append(tvm.compare(*given_to_all))
    publish(report(comparisons, command_line("benchmarks.defenses", given), time.monotonic() - start), options.output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.defenses",
        __doc__,
        _EXAMPLES,
        data="cifar10/test-*.parquet and imagenet10/val-*.parquet, or any pictures; default $STL_RAY_DATA, then "
        "../shared/data, then photographs of scikit-image",
    )
    parser.add_argument(
        "--quick", action="store_true", help="4 crops of photographs at 32 pixels, unless said, one round"
    )
    parser.add_argument("--defenses", nargs="+", choices=DEFENSES, metavar="NAME", help="default all")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="PIXELS", help="default 32 224")
    parser.add_argument("--images", type=int, metavar="N", help="in a batch; by default fewer of larger ones")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of turns (3)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
