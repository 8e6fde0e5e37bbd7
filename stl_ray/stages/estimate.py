"""What a job would do, before it does it: shards, images, bytes and hours, from a few images that are really made.

The few are some rows of the first shard that is left, made by one worker with the CPUs and GPUs that an actor would
have. Nothing is written.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

from stl_ray.config import Experiment
from stl_ray.errors import IncompleteRunError
from stl_ray.stages.computing import bind
from stl_ray.stages.inputs import run_of
from stl_ray.stages.runner import PlannedRun, ShardJob, actors_for
from stl_ray.stages.works import ShardWork
from stl_ray.store import PlannedShard
from stl_ray.store.shards import table_to_bytes

_SAMPLE_ROWS = 64


@dataclass(frozen=True)
class RunEstimate:
    """What one run would take.

    Attributes:
        folder: of the run.
        shards: in all.
        rows: in all.
        left: rows that have no receipt yet.
        bytes: of all its parts.
        seconds: of one actor for the rows that are left.
    """

    folder: str
    shards: int
    rows: int
    left: int
    bytes: float
    seconds: float


@dataclass(frozen=True)
class JobEstimate:
    """What a job would take.

    Attributes:
        runs: each of its runs.
        actors: that would be at work at once.
    """

    runs: list[RunEstimate]
    actors: int

    @property
    def seconds(self) -> float:
        """Of the whole job, if all actors had work to the end."""
        return sum(run.seconds for run in self.runs) / self.actors


def estimate(job: ShardJob, experiment: Experiment) -> JobEstimate:
    """What a job would take; needs a Ray that is connected.

    Raises:
        IncompleteRunError: if the inputs are not there, or the sample cannot be made.
        ConfigError: if not even one actor fits.
    """
    runs = [_estimated(planned, job, experiment) for planned in job.runs]
    return JobEstimate(runs, actors_for(job, experiment.ray, sum(run.shards for run in runs)))


def _estimated(planned: PlannedRun, job: ShardJob, experiment: Experiment) -> RunEstimate:
    run = run_of(experiment.root, planned.folder)
    done = run.receipts() if run.storage.exists("run.json") else {}
    shards, rows, left = 0, 0, 0
    first: PlannedShard | None = None
    for shard in planned.plan:
        shards, rows = shards + 1, rows + shard.rows
        if shard.number not in done:
            left, first = left + shard.rows, first or shard
    size, seconds = float(sum(receipt.bytes for receipt in done.values())), 0.0
    if first is not None:
        config = experiment.ray
        sample = ray.remote(num_cpus=config.cpus_per_actor, num_gpus=job.gpus(config), max_retries=0)(_sampled)
        try:
            bytes_per_row, seconds = ray.get(sample.remote(job.make_work, planned.folder, first, config.cpus_per_actor))
        except RayError as error:
            last = str(error).strip().splitlines()[-1]
            raise IncompleteRunError(f"the sample cannot be made ({last})", item=planned.folder) from error
        size += bytes_per_row * left
    return RunEstimate(planned.folder, shards, rows, left, size, seconds * left)


def _sampled(make_work: Callable[[], ShardWork], folder: str, shard: PlannedShard, threads: int) -> tuple[float, float]:
    """Bytes and seconds of a row."""
    bind(threads)
    work = make_work()
    few = set(range(min(_SAMPLE_ROWS, shard.rows)))
    work(folder, shard, {0})  # the first use loads and compiles
    start = time.monotonic()
    output = work(folder, shard, few)
    seconds = time.monotonic() - start
    return len(table_to_bytes(output.table)) / len(few), seconds / len(few)
