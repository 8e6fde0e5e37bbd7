"""What is there after a worker or a driver was killed, and after a second run: rows, counted by their ids.

Both pipelines run on the Ray that is running, each in a driver of its own; a third of the images is done when somebody
is killed, always by SIGKILL from outside.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow.parquet as pq
import ray

from benchmarks.runner import peer
from benchmarks.runner.workload import Workload
from stl_ray.config.values import written
from stl_ray.errors import IncompleteRunError
from stl_ray.store import Dataset, Run
from stl_ray.store.shards import ids_of

CASES = {
    "left alone": (),
    "a worker killed": ("worker",),
    "the driver killed, and the same again": ("driver", "again"),
    "left alone, and the same again": ("again",),
}

_DEADLINE_S = 180.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Audit:
    """What a reader of the output finds.

    Attributes:
        files: that it reads.
        rows: in them.
        doubled: rows whose id came before.
        missing: ids of the input that do not come.
        made: images that workers made in all; more than the input's where work was done again.
        exits: exit status of every driver, negative for a signal.
    """

    files: int
    rows: int
    doubled: int
    missing: int
    made: int
    exits: Sequence[int]


def count(files: Iterable[Sequence[str]], expected: Iterable[str], made: int, exits: Sequence[int]) -> Audit:
    """Compare the ids in each file with those that should be there."""
    lists = list(files)
    seen = Counter(name for names in lists for name in names)
    rows = sum(seen.values())
    return Audit(len(lists), rows, rows - len(seen), len(set(expected) - seen.keys()), made, exits)


class Pipeline(Protocol):
    """One of the two, on one workload, in a folder of its own."""

    command: list[str]

    def progress(self) -> tuple[int, set[str]]:
        """Images that are done, and the processes of the workers that took any."""
        ...

    def made(self) -> int:
        """Images that workers made, whether or not it came to anything."""
        ...

    def ids(self) -> list[list[str]]:
        """Of every file that a reader finds."""
        ...


class Shards:
    """`stl-ray project`.

    Args:
        workload: whose experiment it runs.
        folder: for its configuration.
    """

    def __init__(self, workload: Workload, folder: Path) -> None:
        folder.mkdir(parents=True)
        config = folder / "experiment.yaml"
        config.write_text(written(workload.experiment.model_dump(mode="json")))
        self.command = [sys.executable, "-m", "stl_ray.cli", "project", str(config)]
        self._run = Run.open(workload.experiment.root, workload.projected)
        shutil.rmtree(self._run.storage.root, ignore_errors=True)

    def progress(self) -> tuple[int, set[str]]:
        """See `Pipeline`."""
        storage = self._run.storage
        attempts = [storage.read_json(f"attempts/{name}") for name in storage.names("attempts")]
        return sum(receipt.rows for receipt in self._run.receipts().values()), {str(a["pid"]) for a in attempts}

    def made(self) -> int:
        """See `Pipeline`: what lies in parts, named by a receipt or not."""
        storage = self._run.storage
        return sum(len(ids_of(storage, f"parts/{name}")) for name in storage.names("parts"))

    def ids(self) -> list[list[str]]:
        """See `Pipeline`: what the manifest names."""
        try:
            tables = Dataset.open(self._run.storage.root).tables()
        except IncompleteRunError:
            return []
        return [table.column("id").to_pylist() for table in tables]


class Peer:
    """The pipeline of Ray Data.

    Args:
        workload: whose images it projects.
        folder: for its output.
        batch: images.
    """

    def __init__(self, workload: Workload, folder: Path, batch: int) -> None:
        folder.mkdir(parents=True)
        files, self._output, self._log = folder / "files.txt", folder / "output", folder / "log"
        files.write_text("\n".join(workload.parts))
        arguments = [workload.space, files, self._output, self._log, 1, batch]
        self.command = [sys.executable, "-m", peer.__name__, *(str(argument) for argument in arguments)]

    def progress(self) -> tuple[int, set[str]]:
        """See `Pipeline`."""
        done = peer.done_in(self._log)
        return sum(piece.images for piece in done), {piece.worker for piece in done}

    def made(self) -> int:
        """See `Pipeline`."""
        return self.progress()[0]

    def ids(self) -> list[list[str]]:
        """See `Pipeline`: every Parquet file."""
        return [pq.read_table(file, columns=["id"]).column("id").to_pylist() for file in self._output.glob("*.parquet")]


def disturb(pipeline: Pipeline, steps: Sequence[str], images: Sequence[str]) -> Audit:
    """Run it, killing a worker or the driver, and perhaps once more; what is there in the end.

    Args:
        pipeline: what to run.
        steps: of CASES.
        images: the ids that should be there.

    Raises:
        SystemExit: it does not get as far as it should within minutes.
    """
    exits = [_drive(pipeline, "driver" if "driver" in steps else "worker" if "worker" in steps else None, len(images))]
    if "again" in steps:
        exits.append(_drive(pipeline, None, len(images)))
    return count(pipeline.ids(), images, pipeline.made(), exits)


def _drive(pipeline: Pipeline, victim: str | None, images: int) -> int:
    """The exit status of a driver."""
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    driver = subprocess.Popen(pipeline.command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + _DEADLINE_S
    while victim is not None:
        done, workers = pipeline.progress()
        if done >= images / 3:
            break
        if driver.poll() is not None or time.monotonic() > deadline:
            driver.kill()
            raise SystemExit(f"{pipeline.command} did not get to a third of the images")
        time.sleep(_POLL_S)
    if victim == "driver":
        driver.kill()
    elif victim == "worker":
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)
    try:
        return driver.wait(_DEADLINE_S)
    except subprocess.TimeoutExpired:
        driver.kill()
        raise SystemExit(f"{pipeline.command} did not come to an end") from None
