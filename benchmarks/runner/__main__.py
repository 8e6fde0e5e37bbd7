"""What the shard runner costs and loses on one machine, beside a bare loop and the same written with Ray Data.

    python -m benchmarks.runner --output benchmarks/results/runner.md

Run it from the repository's root on an idle machine; `--help` says the rest.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common.command import command_parser
from benchmarks.common.pages import command_line, commit, publish
from benchmarks.common.progress import Progress
from benchmarks.runner import bare, peer, shards
from benchmarks.runner.audit import CASES, Peer, Shards, disturb
from benchmarks.runner.page import BARE, OURS, PEER, WORKERS, Audits, Result, Round, report
from benchmarks.runner.workload import Workload, experiment_at, make_workload
from stl_ray.runtime.session import ray_session

SHARDS = {32: (20, 1000), 224: (16, 40)}
"""Shards and images in each by size: at 32 pixels as `ingest` makes them by default, at 224 so that they take as long."""

_EXAMPLES = """
what it does, on a local Ray, with one thread in every worker:
  one worker  images a second of `stl-ray project` with one actor, of a bare loop over the same files, and of
              read_parquet(...).map_batches(...).write_parquet(...); how long the actor waits
  two         the same with two actors, and with two bare processes
  rows        workers and drivers are killed, and jobs run again: rows that are missing or come twice, for ours and
              for Ray Data

examples:
  python -m benchmarks.runner --sizes 32 --shards 12 --images 100 --rounds 1 --no-rows
      a minute's look
  python -m benchmarks.runner --output benchmarks/results/runner.md
      the whole of it, some minutes; leave the machine alone meanwhile (the columns "Busy" tell)
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    torch.set_num_threads(1)
    # Ray puts its workers behind everything else on the machine; the bare loop is not put there.
    os.environ.setdefault("RAY_worker_niceness", str(os.nice(0)))
    progress, start = Progress(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stl-ray-") as name:
        folder = Path(name)
        with ray_session(experiment_at(folder).ray):
            results = [_measure(size, folder / f"{size}", options, progress) for size in options.sizes]
            audits = None if options.no_rows else _audit(options.sizes[0], folder / "rows", options, progress)
    command, took = command_line("benchmarks.runner", given), time.monotonic() - start
    page = report(results, audits, command, commit(), took)
    publish(page, options.output)
    return 0


def _measure(size: int, folder: Path, options: argparse.Namespace, progress: Progress) -> Result:
    count, images = options.shards or SHARDS[size][0], options.images or SHARDS[size][1]
    workload = make_workload(folder / "root", size, count, images, options.data)
    rounds = []
    for number in range(options.rounds):
        progress.tell(f"{size} px: round {number + 1} of {options.rounds}", now=True)
        rounds.append(_round(workload, images, folder / f"round-{number}"))
    return Result(size, count, images, workload.dictionary, rounds)


def _round(workload: Workload, batch: int, folder: Path) -> Round:
    runs, waits = {}, {}
    for workers in (1, WORKERS):
        runs[BARE, workers] = bare.measure(workload.parts, workload.space, folder / f"{workers}", workers)
        ours = shards.measure(workload, workers)
        runs[OURS, workers], waits[workers] = ours.timeline, ours.waits
        if workers == 1:
            runs[PEER, 1] = peer.measure(workload.space, workload.parts, folder / "peer", 1, batch)
    return Round(runs, waits, len(list((folder / "peer" / "output").glob("*.parquet"))))


def _audit(size: int, folder: Path, options: argparse.Namespace, progress: Progress) -> Audits:
    count, images = options.audit
    workload = make_workload(folder / "root", size, count, images, options.data)
    ids = workload.clean.column("id")
    cases = {}
    for number, (case, steps) in enumerate(CASES.items()):
        progress.tell(f"rows: {case}", now=True)
        ours = Shards(workload, folder / f"ours-{number}")
        theirs = Peer(workload, folder / f"peer-{number}", images)
        cases[case] = disturb(ours, steps, ids), disturb(theirs, steps, ids)
    return Audits(size, count, len(ids), cases)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.runner",
        __doc__,
        _EXAMPLES,
        data="with the authors' reference/dictionaries; default $STL_RAY_DATA, then ../shared/data, else patches of the "
        "images serve as a dictionary",
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", choices=sorted(SHARDS), default=sorted(SHARDS), metavar="PIXELS"
    )
    parser.add_argument("--shards", type=int, metavar="N", help="of every size; default 20 at 32 pixels, 16 at 224")
    parser.add_argument("--images", type=int, metavar="N", help="in a shard; default 1000 at 32 pixels, 40 at 224")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of every contestant (3)")
    parser.add_argument("--no-rows", action="store_true", help="kill nobody")
    parser.add_argument(
        "--audit", type=int, nargs=2, default=(24, 100), metavar=("SHARDS", "IMAGES"),
        help="what is projected while workers and drivers are killed (24 100)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
