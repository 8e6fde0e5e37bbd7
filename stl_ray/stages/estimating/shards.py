"""What a job on the shard runner would take: some rows of the first shard that is left are really made, by one worker
with the CPUs and GPUs that an actor would have.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import ray
from ray.exceptions import RayError

from stl_ray.config import Experiment
from stl_ray.errors import IncompleteRunError
from stl_ray.stages.computing import bind
from stl_ray.stages.estimating.steps import StepEstimate
from stl_ray.stages.inputs import run_of
from stl_ray.stages.runner import PlannedRun, ShardJob, actors_for
from stl_ray.stages.works import ShardWork
from stl_ray.store import PlannedShard
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


def _step(planned: PlannedRun, job: ShardJob, experiment: Experiment) -> StepEstimate:
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
        bytes_per_row, seconds_per_row = _sample(planned, job, experiment, first)
        size, seconds = size + bytes_per_row * left, seconds_per_row * left
    return StepEstimate(planned.folder, "images", rows, left, size, seconds, workers=1, shards=shards)


def _sample(planned: PlannedRun, job: ShardJob, experiment: Experiment, shard: PlannedShard) -> tuple[float, float]:
    config = experiment.ray
    task = ray.remote(num_cpus=config.cpus_per_actor, num_gpus=job.gpus(config), max_retries=0)(_sampled)
    try:
        made: tuple[float, float] = ray.get(task.remote(job.make_work, planned.folder, shard, config.cpus_per_actor))
    except RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise IncompleteRunError(f"the sample cannot be made ({last})", item=planned.folder) from error
    return made


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
