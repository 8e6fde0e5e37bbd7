"""The shard runner: plan -> Ray Data actors -> receipts -> manifest.

One row of a small Ray Data dataset = one source shard = one output shard. The actor that takes a row reads, works,
publishes, and returns a summary; images never travel through Ray. Several runs share one pool of actors.
"""

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy

from stl_ray import __version__
from stl_ray.config import Experiment, RayConfig
from stl_ray.errors import ConfigError, IncompleteRunError
from stl_ray.stages.inputs import run_of
from stl_ray.stages.progress import JobProgress
from stl_ray.stages.record import environment
from stl_ray.stages.session import device_of, require_places
from stl_ray.store import PlannedShard, QuarantinedRow, Run

# A shard that takes its worker down this often under one driver is given up, and named.
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class ShardOutput:
    """What a stage makes of one shard: the rows that come out, in source order, and the rows set aside."""

    table: pa.Table
    quarantine: Sequence[QuarantinedRow] = ()


class ShardWork(Protocol):
    """The work of a stage, made once in every actor."""

    def __call__(self, run: str, shard: PlannedShard) -> ShardOutput:
        """Make one shard of the run of that name."""
        ...


@dataclass(frozen=True)
class PlannedRun:
    """A run to bring to its manifest.

    Args:
        folder: of the run, relative to the experiment's root (see store.layout).
        plan: all its shards.
        identity: whatever can change a byte, besides the package version and the device.
    """

    folder: str
    plan: Sequence[PlannedShard]
    identity: Mapping[str, Any]


def run_shards(
    label: str, planned: Sequence[PlannedRun], make_work: Callable[[], ShardWork], experiment: Experiment
) -> list[dict[str, Any]]:
    """Bring every run to its manifest, continuing where an earlier session stopped.

    Args:
        label: what is being done, shown with the progress.
        planned: the runs.
        make_work: makes the work in an actor; picklable.
        experiment: root, Ray resources and the quarantine limit.

    Returns:
        The manifests, in the order of `planned`.

    Raises:
        RunIdentityError: if a folder holds a run made otherwise.
        IncompleteRunError: if shards failed; the others are done and kept.
        QuarantineLimitError: if too many images were set aside.
    """
    runs = {plan.folder: run_of(experiment.root, plan.folder) for plan in planned}
    config = experiment.ray
    # Threads too: sums are taken in another order, which now and then moves a pixel by one grey level.
    device = {"kind": device_of(config), "threads": config.cpus_per_actor}
    for plan in planned:
        identity = {**plan.identity, "stl_ray": __version__, "device": device}
        runs[plan.folder].start(plan.plan, identity=identity, environment=environment())
    pending = [(folder, shard) for folder, run in runs.items() for shard in run.pending()]
    total = sum(shard.rows for plan in planned for shard in plan.plan)
    left = sum(shard.rows for _, shard in pending)
    failures: list[str] = []
    with JobProgress(label, total, done=total - left) as progress:
        for summary in _execute(pending, runs, make_work, experiment) if pending else ():
            progress.advance(summary["rows"], quarantined=summary["quarantined"])
            if summary["error"]:
                failures.append(f"{summary['run']} shard {summary['shard']}: {summary['error']}")
    if failures:
        raise IncompleteRunError(f"{len(failures)} shards failed:\n  " + "\n  ".join(failures[:10]), item=label)
    return [runs[plan.folder].finish(max_quarantined=experiment.max_quarantined) for plan in planned]


def _execute(
    pending: Sequence[tuple[str, PlannedShard]],
    runs: Mapping[str, Run],
    make_work: Callable[[], ShardWork],
    experiment: Experiment,
) -> Iterable[dict[str, Any]]:
    rows = [{"run": folder, "shard": json.dumps(asdict(shard))} for folder, shard in pending]
    config = experiment.ray
    shards = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _ShardActor,  # type: ignore[arg-type]  # Ray Data takes a class whose instances are the function
        fn_constructor_kwargs={
            "runs": dict(runs),
            "make_work": make_work,
            "threads": config.cpus_per_actor,
            "driver": uuid.uuid4().hex,
            "version": __version__,
        },
        compute=ActorPoolStrategy(size=_actors(config, len(rows))),
        num_cpus=config.cpus_per_actor,
        num_gpus=config.gpus_per_actor or None,
    )
    summaries: Iterable[dict[str, Any]] = shards.iter_rows()
    return summaries


def _actors(config: RayConfig, shards: int) -> int:
    """Actors to start: as many as asked for, or as fit; never more than there are shards."""
    fit = require_places(config.actors or 1, cpus=config.cpus_per_actor, gpus=config.gpus_per_actor, key="ray.actors")
    return min(config.actors or fit, shards)


class _ShardActor:
    """Takes shards until there are none left."""

    def __init__(
        self, runs: dict[str, Run], make_work: Callable[[], ShardWork], threads: int, driver: str, version: str
    ) -> None:
        if version != __version__:
            raise ConfigError(
                "a node has another version of stl-ray", item=socket.gethostname(), expected=version, got=__version__
            )
        torch.set_num_threads(threads)
        self._runs, self._driver = runs, driver
        self._work = make_work()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        run, shard = self._runs[row["run"]], PlannedShard(**json.loads(row["shard"]))
        summary = {"run": row["run"], "shard": shard.number, "rows": 0, "quarantined": 0, "error": ""}
        start = time.monotonic()
        try:
            attempt = run.attempt(shard.number, self._driver)
            if attempt > MAX_ATTEMPTS:
                return {**summary, "error": f"its worker died {MAX_ATTEMPTS} times; see the Ray logs of this session"}
            output = self._work(row["run"], shard)
            receipt = run.publish(
                shard,
                output.table,
                output.quarantine,
                seconds=time.monotonic() - start,
                attempt=attempt,
                environment={"host": socket.gethostname(), "torch": torch.__version__},
            )
        except Exception as error:  # noqa: BLE001
            # Whatever it is, it is this shard's: the others go on, and the job ends with a failure that names it.
            return {**summary, "error": f"{type(error).__name__}: {error}"}
        return {**summary, "rows": shard.rows, "quarantined": receipt.quarantined}
