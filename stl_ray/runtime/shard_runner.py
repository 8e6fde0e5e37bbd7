"""The shard runner: plan -> Ray Data actors -> receipts -> manifest.

One row of a small Ray Data dataset = one source shard = one output shard. The actor that takes a row reads, works,
publishes, and returns a summary; images never travel through Ray. Several runs share one pool of actors.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.data import ActorPoolStrategy
from ray.exceptions import RayError

from stl_ray import __version__
from stl_ray.config import Experiment, RayConfig
from stl_ray.errors import IncompleteRunError, RunIdentityError
from stl_ray.runtime.concurrency import SHARDS_IN_HAND
from stl_ray.runtime.job_log import environment
from stl_ray.runtime.node_labels import placement
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.progress_actor import make_board
from stl_ray.runtime.session import require_worker_slots
from stl_ray.runtime.shard_actor import ShardActor, ShardSummary
from stl_ray.runtime.shard_task import ShardTask
from stl_ray.store import PlannedShard, Run
from stl_ray.store.lease import Lease, held
from stl_ray.store.runs import Draft

# So many failures in a row are not bad shards: the storage is gone, or the key to it.
_FAILURES_IN_A_ROW = 25

# Longest wait for a figure on the screen.
_ANSWER_S = 5


@dataclass(frozen=True)
class PlannedRun:
    """A run to bring to its manifest.

    Args:
        folder: of the run, relative to the experiment's root (see store.layout).
        plan: all its shards; taken once, or of jobs that are drafted before they run (`drafts_of`) twice.
        identity: whatever can change a byte, besides the package version and the device.
        made: entries of the identity that are not known yet, because they must be made first, which may take long, or come
            of runs before: for each the function that makes and returns it, from the entry of the run in the folder (None:
            there is no run). They are made under the lease, once all that is known of the identities was checked.
        notes: further facts that planning learned, once all shards were taken (see `store.plan.plan_file`).
    """

    folder: str
    plan: Iterable[PlannedShard]
    identity: Mapping[str, Any]
    made: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    notes: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True)
class ShardJob:
    """The work that a job gives to the runner.

    Args:
        label: what is being done, shown with the progress.
        runs: to bring to their manifests.
        make_task: makes the task in an actor; picklable.
        gpu: whether actors take the GPUs that the configuration gives them; decoding needs none.
    """

    label: str
    runs: Sequence[PlannedRun]
    make_task: Callable[[], ShardTask]
    gpu: bool = True

    def gpus(self, config: RayConfig) -> float:
        """GPUs of an actor."""
        return config.gpus_per_actor if self.gpu else 0.0

    def device(self, config: RayConfig) -> dict[str, Any]:
        """The part of every run's identity that names the computing device."""
        # Threads too: sums are taken in another order, which now and then moves a pixel by one grey level.
        return {"kind": "cuda" if self.gpus(config) else "cpu", "threads": config.cpus_per_actor}


def drafts_of(jobs: Sequence[ShardJob], experiment: Experiment) -> list[Draft]:
    """A draft of every run of some jobs, in order, checked against what is in its folder; nothing is written.

    Raises:
        RunIdentityError: if folders hold runs made otherwise; it names them all.
    """
    drafts: list[Draft] = []
    refused: list[RunIdentityError] = []
    for job in jobs:
        identity = {"stl_ray": __version__, "device": job.device(experiment.ray)}
        for planned in job.runs:
            run, known = Run.open(experiment.root, planned.folder), {**planned.identity, **identity}
            try:
                drafts.append(run.draft(planned.plan, identity=known, made=planned.made, notes=planned.notes))
            except RunIdentityError as error:
                refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        listed = "\n  ".join(map(str, refused))
        raise RunIdentityError(f"{len(refused)} runs cannot go on:\n  {listed}", item=experiment.root)
    return drafts


def run_shards(job: ShardJob, experiment: Experiment) -> list[dict[str, Any]]:
    """Bring every run to its manifest, continuing where an earlier session stopped.

    Args:
        job: what to do.
        experiment: root, Ray resources and the quarantine limit.

    Returns:
        The manifests, in the order of `job.runs`.

    Raises:
        RunBusyError: if another driver is at work on one of the runs.
        RunIdentityError: if folders hold runs made otherwise.
        IncompleteRunError: if shards failed; the others are done and kept.
        QuarantineLimitError: if too many images were set aside.
    """
    runs = {planned.folder: Run.open(experiment.root, planned.folder) for planned in job.runs}
    with held([run.storage for run in runs.values()]) as lease:
        # Every run is checked before anything is written for one of them: a refusal leaves all of them as they were.
        drafts = drafts_of([job], experiment)
        for planned, draft in zip(job.runs, drafts, strict=True):
            stored = draft.stored or {}
            entries = {name: make(stored.get(name)) for name, make in planned.made.items()}
            lease.check()
            draft.start(entries, environment=environment())
        pending = {(folder, number): rows for folder, run in runs.items() for number, rows in run.pending().items()}
        total = sum(int(run.plan().rows.sum()) for run in runs.values())
        with JobProgress(job.label, total, done=total - sum(pending.values())) as progress:
            _bring_in(list(pending), runs, job, experiment, progress, lease)
        lease.check()
        return [runs[planned.folder].finish(max_quarantined=experiment.max_quarantined) for planned in job.runs]


def _bring_in(
    pending: Sequence[tuple[str, int]],
    runs: Mapping[str, Run],
    job: ShardJob,
    experiment: Experiment,
    progress: JobProgress,
    lease: Lease,
) -> None:
    """Have every pending shard made.

    Raises:
        IncompleteRunError: if some failed; it names the first of them.
    """
    failures: list[str] = []
    in_a_row = 0
    if not pending:
        return
    board = make_board()
    progress.follow(lambda: ray.get(board.in_flight.remote(), timeout=_ANSWER_S))
    for summary in _execute(pending, runs, job, experiment, board):
        lease.check()
        progress.shard(summary)
        in_a_row = in_a_row + 1 if summary.error else 0
        if summary.error:
            failures.append(f"{summary.run} shard {summary.shard}: {summary.error}")
        if in_a_row == _FAILURES_IN_A_ROW:
            break
    if failures:
        rest = f", {in_a_row} one after the other, so that no more were tried" if in_a_row == _FAILURES_IN_A_ROW else ""
        listed = "\n  ".join(failures[:10])
        raise IncompleteRunError(f"{len(failures)} shards failed{rest}:\n  {listed}", item=job.label)


def _execute(
    pending: Sequence[tuple[str, int]], runs: Mapping[str, Run], job: ShardJob, experiment: Experiment, board: Any
) -> Iterator[ShardSummary]:
    config = experiment.ray
    rows = [{"run": folder, "shard": number} for folder, number in pending]
    shards = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        ShardActor,  # type: ignore[arg-type]  # Ray Data takes a class whose instances are the function
        fn_constructor_kwargs={
            "runs": dict(runs),
            "make_task": job.make_task,
            "threads": config.cpus_per_actor,
            "driver": uuid.uuid4().hex,
            "version": __version__,
            "board": board,
        },
        compute=_pool(job, config, len(rows)),
        num_cpus=config.cpus_per_actor,
        num_gpus=job.gpus(config) or None,
        **placement(config),
    )
    try:
        # Nothing ahead: Ray Data would hold a shard back until the next one is done, which may take long.
        for batch in shards.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
            yield from (ShardSummary(**row) for row in batch.to_pylist())  # type: ignore[union-attr]  # a table
    except RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise IncompleteRunError(f"the actors cannot work ({lines[-1]})", item=job.label) from error


def actors_for(job: ShardJob, config: RayConfig, shards: int) -> int:
    """Most actors that a job would have at once: as many as were asked for, or as fit; never more than shards.

    Raises:
        ConfigError: if not even the fewest fit, and the cluster does not grow.
    """
    least = config.min_actors or config.actors or 1
    if config.autoscaling:
        most = config.actors or least
    else:
        fit = require_worker_slots(
            least, cpus=config.cpus_per_actor, gpus=job.gpus(config), selectors=config.selectors, key="ray.actors"
        )
        most = min(config.actors or fit, fit)
    return max(min(most, shards), 1)


def _pool(job: ShardJob, config: RayConfig, shards: int) -> ActorPoolStrategy:
    most = actors_for(job, config, shards)
    least = min(config.min_actors or most, most)
    return ActorPoolStrategy(
        min_size=least,
        max_size=most,
        max_tasks_in_flight_per_actor=SHARDS_IN_HAND,
        max_concurrent_calls_per_actor=SHARDS_IN_HAND,
        enable_true_multi_threading=True,
    )
