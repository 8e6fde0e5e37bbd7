"""How faithful the defenses are: our rows beside the paper's Tables 4 to 7, each of them an experiment by the package's own jobs.

    python -m benchmarks.defenses.faithfulness cifar10-resnet20 --root runs/faithfulness
    python -m benchmarks.defenses.faithfulness cifar10-resnet56 --root runs/faithfulness --rows stl magnet
    python -m benchmarks.defenses.faithfulness bpda --root runs/faithfulness --rows --output benchmarks/results/defenses-bpda.md

Each part is a table with a page of its own, of every row that is done below the root: the last command runs none. Stopped and started
again with the same --root, it goes on where it was. Run it from the repository's root; it needs ../shared/data, or a folder like it.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.common.command import command_parser
from benchmarks.common.pages import publish
from benchmarks.common.progress import Progress
from benchmarks.defenses.faithfulness.experiments import (
    THERMOMETER,
    fit_experiment,
    needs_fit,
    scored_experiment,
    thermometer_experiment,
)
from benchmarks.defenses.faithfulness.page import report
from benchmarks.defenses.faithfulness.parts import PARTS, Part
from benchmarks.defenses.faithfulness.rows import ROWS
from benchmarks.defenses.faithfulness.scores import keep, read_all
from stl_ray.cli.given import with_modules_here
from stl_ray.cli.jobs import run_job


def main(arguments: list[str] | None = None) -> int:
    """Run the part row by row, then print the page of what is done of it, and write it where asked."""
    options = _parser().parse_args(arguments)
    root, progress, key = options.root.absolute(), Progress(), options.part
    part = PARTS[key]
    for name in part.rows:
        if options.rows is None or name in options.rows:
            images = min(part.images, part.slow.get(name, part.images), options.images or part.images)
            progress.tell(f"{key}: {name}, {images} images", now=True)
            _prepare(part, name, root, options.data)
            experiment = with_modules_here(scored_experiment(key, part, name, images, root, options.data))
            for job in ("ingest", "attack", "evaluate"):
                run_job(job, experiment)
            keep(experiment, root, key, name)
    publish(report(key, read_all(key, root)), options.output)
    return 0


def _prepare(part: Part, name: str, root: Path, data: Path) -> None:
    """Fit and train what a row and those that it is made of need."""
    for item in (*ROWS[name].members, name):
        if item != "none" and needs_fit(part, item):
            experiment = fit_experiment(part, item, root, data)
            for job in ("ingest", "fit"):
                run_job(job, experiment)
    if name == THERMOMETER:
        for job in ("ingest", "train"):
            run_job(job, thermometer_experiment(root, data))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.defenses.faithfulness",
        __doc__,
        data="with cifar10/, imagenet10/, weights/ and reference/ (../shared/data)",
        needs_data=True,
    )
    parser.add_argument("part", choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--root", type=Path, required=True, help="folder of the experiments")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), metavar="ROW", help="to run, of the part's [all]")
    parser.add_argument("--images", type=int, help="of a row at most")
    return parser


if __name__ == "__main__":
    sys.exit(main())
