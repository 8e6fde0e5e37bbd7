"""The estimate of a job on the shard runner: one worker, with the CPUs and GPUs of an actor, really makes some rows of
the first shard that is left.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from stl_ray.config import Experiment
from stl_ray.pipeline.estimate.sampling import sample
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, actors_for
from stl_ray.runtime.shard_task import ShardTask
from stl_ray.store import PlannedShard, Run
from stl_ray.store.shards import table_to_bytes

_SAMPLE_ROWS = 64


def shard_steps(job: ShardJob, experiment: Experiment) -> list[StepEstimate]:
    """A step for each run of a job; needs a Ray that is connected.

    Raises:
        IncompleteRunError: if the inputs are not there, or the sample cannot be made.
        ConfigError: if not even one actor fits.
    """
    steps = [_step(planned, job, experiment) for planned in job.runs]
    # The runs of a job share one pool of actors.
    workers = actors_for(job, experiment.ray, sum(step.shards or 0 for step in steps))
    return [replace(step, workers=workers) for step in steps]


@dataclass(frozen=True)
class Progress:
    """How far a run is: its shards and rows, the rows that are left, the bytes of the others, the first shard to make."""

    shards: int
    rows: int
    left: int
    bytes: float
    first: PlannedShard | None


def progress_of(root: str, folder: str, plan: Iterable[PlannedShard]) -> Progress:
    """How far the run in a folder is, begun or not."""
    run = Run.open(root, folder)
    done = run.receipts() if run.storage.exists("run.json") else {}
    shards, rows, left = 0, 0, 0
    first: PlannedShard | None = None
    for shard in plan:
        shards, rows = shards + 1, rows + shard.rows
        if shard.number not in done:
            left, first = left + shard.rows, first or shard
    return Progress(shards, rows, left, float(sum(receipt.bytes for receipt in done.values())), first)


def _step(planned: PlannedRun, job: ShardJob, experiment: Experiment) -> StepEstimate:
    done = progress_of(experiment.root, planned.folder, planned.plan)
    size, seconds = done.bytes, 0.0
    if done.first is not None:
        bytes_per_row, seconds_per_row = _sample(planned, job, experiment, done.first)
        size, seconds = size + bytes_per_row * done.left, seconds_per_row * done.left
    return StepEstimate(planned.folder, "images", done.rows, done.left, size, seconds, workers=1, shards=done.shards)


def _sample(planned: PlannedRun, job: ShardJob, experiment: Experiment, shard: PlannedShard) -> tuple[float, float]:
    config = experiment.ray
    return sample(
        _sampled, job.make_task, planned.folder, shard, config.cpus_per_actor,
        resources=config, cpus=config.cpus_per_actor, gpus=job.gpus(config), item=planned.folder,
    )  # fmt: skip


def _sampled(make_task: Callable[[], ShardTask], folder: str, shard: PlannedShard, threads: int) -> tuple[float, float]:
    """Bytes and seconds of a row."""
    bind(threads)
    work = make_task()
    few = set(range(min(_SAMPLE_ROWS, shard.rows)))
    work(folder, shard, {0})  # the first use loads and compiles
    start = time.monotonic()
    output = work(folder, shard, few)
    seconds = time.monotonic() - start
    return len(table_to_bytes(output.table)) / len(few), seconds / len(few)
