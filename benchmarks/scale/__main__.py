"""What the protocol and its driver cost at the size of ImageNet: seconds, and memory for each further image.

    python -m benchmarks.scale --output benchmarks/results/imagenet-scale.md

Run it from the repository's root on an idle machine; `--help` says the rest.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common.command import command_parser
from benchmarks.common.pages import command_line, commit, publish
from benchmarks.common.progress import Progress
from benchmarks.scale import driver, protocol, sources
from benchmarks.scale.page import Planned, Protocol, Result, Runner, report
from benchmarks.scale.phases import alone
from benchmarks.scale.protocol import IMAGENET, PHOTOGRAPH, SHARD

SIZES = (80_000, 320_000, IMAGENET)

PHOTOGRAPHS = 16 * SHARD
"""Images of a photograph's size that are verified."""

IN_BUCKET = {"folder": 20_000, "tar": 4000, "parquet": IMAGENET}
"""Most images of a source in the bucket, where making it takes longer than planning over it."""

_EXAMPLES = """
what it does, on a disk and in a bucket of a Ceph of its own (where that is installed):
  protocol    a run of that many images of 64 random bytes: a driver plans it, workers publish it by the functions that
              actors call, another driver finds it done and finishes it, `verify` recounts it
  runner      1 and 3 defenses that do nothing project it by the whole runner on a local Ray with one actor
  sources     plans of ingest over as many files, members of tars and rows of Parquet

examples:
  python -m benchmarks.scale --sizes 4000 8000 --no-ray --no-bucket
      a minute's look
  python -m benchmarks.scale --output benchmarks/results/imagenet-scale.md
      the whole of it, a quarter of an hour and some 10 GB; leave the machine alone meanwhile
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    progress, start = Progress(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stl-ray-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        made = options.sources or folder / "sources"
        disk = _protocol(str(folder), options.sizes, progress)
        planned = _plans(str(made), str(folder), [options.sizes[0], options.sizes[-1]], None, progress)
        runner = None if options.no_ray else _runner(disk[-1], str(folder / f"{options.sizes[-1]}"), progress)
        bucket: list[Protocol] = []
        if not options.no_bucket:
            with _bucket(folder / "ceph") as root:
                bucket = _protocol(root, options.sizes[-2:], progress) if root else []
                planned += _plans(f"{root}/sources", root, options.sizes[-1:], IN_BUCKET, progress) if root else []
    command, took = command_line("benchmarks.scale", given), time.monotonic() - start
    page = report(Result(disk, bucket, planned, runner), command, commit(), took)
    publish(page, options.output)
    return 0


def _protocol(root: str, sizes: list[int], progress: Progress) -> list[Protocol]:
    """A run of every size, and one of photographs."""
    where, found = "bucket" if "://" in root else "disk", []
    for images in sizes:
        place = f"{root}/{images}"
        progress.tell(f"{where}: {images} images", now=True)
        phases = alone(protocol.begin, place, images)
        work = protocol.work(place, images)
        phases += alone(protocol.finish, place, images)
        found.append(Protocol(images, [*phases, *alone(protocol.audit, place, images)], work))
    progress.tell(f"{where}: photographs", now=True)
    images = min(PHOTOGRAPHS, sizes[-1] // 4)
    alone(protocol.begin, f"{root}/photographs", images)
    protocol.work(f"{root}/photographs", images, PHOTOGRAPH)
    alone(protocol.finish, f"{root}/photographs", images)
    found[-1].photographs = images, alone(protocol.audit, f"{root}/photographs", images)[0]
    return found


def _plans(made: str, root: str, sizes: list[int], most: dict[str, int] | None, progress: Progress) -> list[Planned]:
    """Every kind of source at every size, or at the most that is wanted of it."""
    where, found = "bucket" if most else "disk", []
    for kind in sources.KINDS:
        for images in sorted({min(size, most[kind]) if most else size for size in sizes}):
            place = f"{made}/{kind}-{images}"
            progress.tell(f"{where}: {kind} of {images} images", now=True)
            alone(sources.make, kind, place, images)
            bare = alone(sources.bare, kind, place)
            found.append(Planned(where, images, alone(sources.plan, kind, place, images, root), bare))
    return found


def _runner(run: Protocol, root: str, progress: Progress) -> Runner:
    progress.tell("runner", now=True)
    bare = alone(driver.bare, root)
    return Runner(run.shards, bare, [alone(driver.drive, root, defenses) for defenses in (1, 3)])


@contextmanager
def _bucket(folder: Path) -> Iterator[str]:
    """The URI of a bucket on a Ceph that lives in the block, "" where it is not installed."""
    file = Path(__file__).parents[2] / "tests" / "ceph.py"
    specification = importlib.util.spec_from_file_location("ceph_server", file)
    assert specification is not None and specification.loader is not None
    module: Any = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    if module.missing():
        yield ""
        return
    server = module.Ceph(folder)
    try:
        server.start()
        os.environ.update(server.environment())
        yield f"s3://{server.bucket()}"
    finally:
        server.stop()


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("benchmarks.scale", __doc__, _EXAMPLES)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(SIZES), metavar="N",
        help="images, two sizes at least, ascending; default 80000 320000 1281167",
    )  # fmt: skip
    parser.add_argument("--no-ray", action="store_true", help="without the runner")
    parser.add_argument("--no-bucket", action="store_true", help="without Ceph")
    parser.add_argument(
        "--sources", type=Path, metavar="FOLDER", help="where the sources on the disk are made, unless they are there"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
