"""The whole runner on local Ray with an identity work: what a shard costs when nothing is computed.

The same shards are also made by a bare loop in one process, with as many in hand as the actor has.
"""

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from benchmarks.common.memory import Growth
from benchmarks.scale.protocol import make_shards
from stl_ray.config import Experiment
from stl_ray.pipeline.batches import plan_parts
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.runtime.session import ray_session
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Layout, PlannedShard, Run

_SAMPLE_S = 0.5


class IdentityTask(TableTask):
    """Every image as it is."""

    def __init__(self, root: str, folder: str) -> None:
        self._dataset = dataset_of(root, folder)

    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The images of the shard."""
        return self._dataset.read(shard.source)

    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """The same images."""
        return ShardOutput(table)


@dataclass(frozen=True)
class Driven:
    """A job of the runner.

    Attributes:
        defenses: runs of the job.
        shards: of all of them together.
        seconds: from the first plan to the last manifest, with Ray up and the actor not yet.
        start: bytes of the driver's resident memory before the job.
        peak: bytes at its highest above that.
        quarters: bytes above it after each quarter of the time.
    """

    defenses: int
    shards: int
    seconds: float
    start: float
    peak: float
    quarters: list[float]


def drive(root: str, defenses: int) -> Driven:
    """Project the training images by so many defenses that do nothing, with one actor."""
    layout = Layout(root)
    experiment = experiment_of(root)
    dataset = dataset_of(root, layout.ingested("train"))
    runs = [
        PlannedRun(
            layout.projected(f"identity-{defenses}-{n}", "train"), plan_parts(dataset), {"input": dataset.digest}
        )
        for n in range(defenses)
    ]
    job = ShardJob("project", runs, partial(IdentityTask, root, layout.ingested("train")), gpu=False)
    with ray_session(experiment.ray):
        grown, samples = Growth(), list[float]()
        over = threading.Event()

        def sample() -> None:
            while not over.wait(_SAMPLE_S):
                samples.append(grown.kept())

        thread = threading.Thread(target=sample)
        thread.start()
        start = time.perf_counter()
        try:
            manifests = run_shards(job, experiment)
        finally:
            over.set()
            thread.join()
        seconds = time.perf_counter() - start
        samples.append(grown.kept())
    if {manifest["digest"] for manifest in manifests} != {dataset.digest}:
        raise RuntimeError("the identity made something else")
    quarters = [samples[(len(samples) * quarter - 1) // 4] for quarter in (1, 2, 3, 4)]
    return Driven(defenses, defenses * len(dataset.parts), seconds, grown.start, grown.bytes(), quarters)


def bare(root: str) -> float:
    """Seconds of a bare loop over all shards, without Ray."""
    layout = Layout(root)
    dataset = dataset_of(root, layout.ingested("train"))
    run = Run.open(root, layout.projected("bare", "train"))
    work = IdentityTask(root, layout.ingested("train"))
    start = time.perf_counter()
    run.start(plan_parts(dataset), identity={"input": dataset.digest}, environment={})
    make_shards(run, range(len(dataset.parts)), partial(work.table, run.name))
    run.finish(max_quarantined=0)
    return time.perf_counter() - start


def experiment_of(root: str) -> Experiment:
    """An experiment at that root, with one actor of one CPU."""
    photographs: dict[str, Any] = {"format": "photographs"}
    keys = {"name": "scale", "root": root, "ingest": {"train": photographs, "test": photographs}, "ray": {"actors": 1}}
    return Experiment.model_validate(keys, strict=False)
