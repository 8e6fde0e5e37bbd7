"""The projection as `stl-ray project` does it, on the Ray that is running; timed by the files that it leaves."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.runner.processes import Watch
from benchmarks.runner.rates import Done, Timeline
from benchmarks.runner.workload import Workload
from stl_ray.pipeline import project
from stl_ray.runtime.concurrency import SHARDS_IN_HAND
from stl_ray.runtime.job_log import job_session
from stl_ray.runtime.job_status import statuses
from stl_ray.store import Run


@dataclass(frozen=True)
class Shards:
    """What was seen of a run.

    Attributes:
        timeline: a piece is a shard, done when its receipt was there.
        waits: share of the time between its first and its last in which the solver of an actor had nothing to do.
    """

    timeline: Timeline
    waits: float


def measure(workload: Workload, actors: int) -> Shards:
    """Project all images with so many actors of one thread; the result of an earlier call is removed first."""
    shutil.rmtree(workload.uri(workload.projected), ignore_errors=True)
    ray = workload.experiment.ray.model_copy(update={"actors": actors})
    experiment = workload.experiment.model_copy(update={"ray": ray})
    with Watch() as watch, job_session("project", experiment):
        project.run(experiment)
    (record,) = statuses(experiment.root)
    return Shards(watch.timeline(done_in(workload), SHARDS_IN_HAND), 1 - record["progress"]["busy"])


def done_in(workload: Workload) -> list[Done]:
    """The shards that have a receipt."""
    run = Run.open(workload.experiment.root, workload.projected)
    folder = Path(run.storage.root)
    return [
        Done(
            run.storage.read_json(f"attempts/{number:05d}.{receipt.attempt - 1}")["pid"],
            (folder / f"done/{number:05d}.json").stat().st_mtime,
            receipt.rows,
        )
        for number, receipt in run.receipts().items()
    ]
