"""Ray Train for the jobs that train: workers, started again when one dies.

A checkpoint is one file in the training's folder, replaced after every epoch: the state as safetensors, the rows of the
epochs so far in its metadata. Ray Train does not write it: pyarrow's copy_files, by which it would, does not say when
the storage refuses a file as it is closed, and uploads in pieces that a killed writer leaves behind. Training goes on
from it after the death of a worker, a node or the driver. Errors that no repetition mends, such as a loss that is not
finite, are not retried.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import train as ray_train
from ray.train.torch import TorchConfig, TorchTrainer
from safetensors.torch import load, save
from torch import Tensor

from stl_ray.errors import StlRayError, StorageError, TrainingError
from stl_ray.runtime.session import require_worker_slots
from stl_ray.store import Storage
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.shards import sha256

HISTORY = "metrics.jsonl"
"""The rows of a training's epochs, in its folder and in every checkpoint."""

_DEATHS = 3  # at most, without a further epoch

_PATIENCE_S = 6 * 3600
"""Longest wait of a worker for the others: one on a new node copies the images first, which takes hours for ImageNet."""


@dataclass(frozen=True)
class Workers:
    """The resources of one training: `count` Ray Train workers of `cpus` CPUs each, on GPUs a whole one each.

    Attributes:
        least: fewest workers with which it begins, and continues while others do not fit.
        waits: whether to wait for a cluster that grows, instead of refusing.
        label_selector: labels of their nodes; Ray Train has no fallback for it.
    """

    count: int
    cpus: int
    gpu: bool
    least: int | None = None
    waits: bool = False
    label_selector: Mapping[str, str] = field(default_factory=dict)

    def trainings_at_once(self, key: str) -> int:
        """The number of such trainings that the cluster carries, at least one.

        Raises:
            ConfigError: if not even one fits, and the cluster does not grow; it names `key`.
        """
        if self.waits:
            return 1
        least = self.least or self.count
        fit = require_worker_slots(
            least, cpus=self.cpus, gpus=1 if self.gpu else 0, selectors=[self.label_selector], key=key
        )
        return max(1, fit // self.count)

    def scaling(self) -> ray_train.ScalingConfig:
        """These resources for Ray Train."""
        least = self.least or self.count
        workers: Any = self.count if least == self.count else (least, self.count)
        return ray_train.ScalingConfig(
            num_workers=workers,
            use_gpu=self.gpu,
            resources_per_worker={"CPU": self.cpus},
            label_selector=dict(self.label_selector) or None,  # type: ignore[call-arg]  # mypy sees the older class
        )


def fit(
    work: Callable[[dict[str, Any]], None],
    settings: dict[str, Any],
    workers: Workers,
    *,
    name: str,
    storage: Storage,
    identity: Mapping[str, Any],
) -> None:
    """Run `work(settings)` in every worker until it returns, again after a worker's death.

    Three deaths without a further epoch end it. Machines that announce their end (spot) are not counted.

    Args:
        work: one worker's part; it calls `resume` once and `report` after every epoch.
        settings: picklable; `board` among them.
        workers: how many, and what each takes.
        name: of what is trained, in errors and on the board.
        storage: the folder of what is trained, for `resume` and `report`.
        identity: of the training, as for these.

    Raises:
        StlRayError: a worker's error that no repetition mends.
        TrainingError: the work failed otherwise; with the worker's message.
    """
    # A report waits for the controller's next look at its workers; every two seconds would stall short epochs.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    while True:
        epochs = len(history_of(storage, identity))
        error = _deaths(work, settings, workers, name, storage)
        if failure := _failure(settings, name):
            raise failure
        if error is None:
            return
        if len(history_of(storage, identity)) <= epochs:
            raise TrainingError(f"training failed ({_cause(error)})", item=name) from error


def _deaths(
    work: Callable[[dict[str, Any]], None], settings: dict[str, Any], workers: Workers, name: str, storage: Storage
) -> Exception | None:
    """Work until it is done, or workers have died too often; returns the last one's error, None where it is done."""
    # Nobody reads what Ray Train notes of a run without checkpoints; its controller is on this node.
    with tempfile.TemporaryDirectory(prefix="stl-ray-train-") as notes:
        trainer = TorchTrainer(
            _once,
            train_loop_config={"work": work, "name": name, "settings": settings},
            scaling_config=workers.scaling(),
            torch_config=TorchConfig(timeout_s=_PATIENCE_S),
            run_config=ray_train.RunConfig(
                name=name, storage_path=notes, failure_config=ray_train.FailureConfig(max_failures=_DEATHS - 1)
            ),
        )
        # Ray reserves what a run requested for three minutes after its driver was killed, and elastic workers start on
        # nothing else. Under the killed run's id this one takes its request over; one driver at a time has the folder.
        object.__setattr__(trainer.train_run_context, "run_id", sha256(storage.root.encode())[:32])  # type: ignore[attr-defined]
        try:
            trainer.fit()
        except ray_train.TrainingFailedError as error:
            return error
    return None


def _once(loop: dict[str, Any]) -> None:
    """In a worker: do the work, unless an earlier attempt posted that it cannot succeed."""
    board, name = loop["settings"]["board"], loop["name"]
    if ray.get(board.failure.remote(name)) is not None:
        return
    try:
        loop["work"](loop["settings"])
    except StorageError:
        raise  # a storage that was away may be back
    except StlRayError as error:
        ray.get(board.fail.remote(name, error))
        raise


def _failure(settings: Mapping[str, Any], name: str) -> StlRayError | None:
    failure: StlRayError | None = ray.get(settings["board"].failure.remote(name))
    return failure


def _cause(error: Exception) -> str:
    """The last line of what the worker raised, which is its own message."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def rank_and_world_size() -> tuple[int, int]:
    """In a worker: its rank, and the number of workers."""
    context = ray_train.get_context()
    return context.get_world_rank(), context.get_world_size()


def checkpoint_of(identity: Mapping[str, Any]) -> str:
    """The name of a training's checkpoint in its folder: other settings never resume from these weights."""
    return f"checkpoint-{sha256(canonical_json(identity))[:12]}.safetensors"


def checkpoints(storage: Storage) -> list[str]:
    """The names of all checkpoints in a training's folder, of whatever settings."""
    return [name for name in storage.names() if name.startswith("checkpoint-") and name.endswith(".safetensors")]


def resume(storage: Storage, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor] | None, list[dict[str, Any]]]:
    """State and rows of the last checkpoint; None and [] where there is none.

    Args:
        storage: the folder of what is trained.
        identity: whatever can change the result.
    """
    name = checkpoint_of(identity)
    return (load(storage.read(name)) if storage.exists(name) else None), history_of(storage, identity)


def history_of(storage: Storage, identity: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the last checkpoint, from its header alone; [] where there is no checkpoint."""
    name = checkpoint_of(identity)
    if not storage.exists(name):
        return []
    # The file is a length of 8 bytes, a header of JSON, and the tensors.
    header = json.loads(storage.read(name, 8, int.from_bytes(storage.read(name, 0, 8), "little")))
    rows: list[dict[str, Any]] = json.loads(header["__metadata__"]["history"])
    return rows


def report(
    state: Mapping[str, Tensor], history: Sequence[dict[str, Any]], storage: Storage, identity: Mapping[str, Any]
) -> None:
    """In every worker, after an epoch or within one: rank 0 stores a checkpoint, and the rows so far as lines; all continue."""
    rank, _ = rank_and_world_size()
    if rank == 0:
        storage.write(HISTORY, "".join(json.dumps(row) + "\n" for row in history).encode())
        storage.write(checkpoint_of(identity), save(dict(state), metadata={"history": json.dumps(history)}))
    ray_train.report(history[-1] if history else {})


def leaving() -> bool:
    """In every worker at the same step: whether the node of one of them is about to be taken away."""
    return ray_train.get_preemption_info() is not None
