"""Ray Train for the stages that train: workers, a checkpoint after every epoch, several trainings side by side.

A checkpoint is the training's state as safetensors and the rows of its epochs so far. Ray Train goes on from the last
one after a worker's death, and, by the run's name, after the driver's.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import train as ray_train
from ray.train.torch import TorchTrainer
from safetensors.torch import load_file, save_file
from torch import Tensor

from stl_ray.errors import TrainingError
from stl_ray.stages.board import watch
from stl_ray.stages.progress import JobProgress
from stl_ray.stages.session import require_places
from stl_ray.store import Storage
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.shards import sha256

HISTORY = "metrics.jsonl"
"""The rows of a training's epochs, in its folder and in every checkpoint."""

_STATE = "state.safetensors"


@dataclass(frozen=True)
class Workers:
    """What one training takes: `count` Ray Train workers of `cpus` CPUs each, on GPUs a whole one each."""

    count: int
    cpus: int
    gpu: bool

    def trainings_at_once(self, key: str) -> int:
        """How many such trainings the cluster carries, at least one.

        Raises:
            ConfigError: if not even one fits; it names `key`.
        """
        return require_places(self.count, cpus=self.cpus, gpus=1 if self.gpu else 0, key=key) // self.count


def fit(
    work: Callable[[dict[str, Any]], None],
    settings: dict[str, Any],
    workers: Workers,
    *,
    name: str,
    identity: Mapping[str, Any],
    storage: Storage,
) -> None:
    """Run `work(settings)` in every worker until it returns, again after a worker's death, twice at most.

    Args:
        work: one worker's part; it calls `resume` once and `report` after every epoch.
        settings: picklable.
        workers: how many, and what each takes.
        name: of what is trained, in errors.
        identity: whatever can change the result.
        storage: the folder of what is trained; checkpoints are kept below it.

    Raises:
        TrainingError: with what the worker had to say.
    """
    # A report waits for the controller's next look at its workers; every two seconds would stall short epochs.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # The same name resumes, so it carries the identity: other settings never go on from these weights.
    run = f"{name}-{sha256(canonical_json(identity))[:12]}"
    trainer = TorchTrainer(
        work,
        train_loop_config=settings,
        scaling_config=ray_train.ScalingConfig(
            num_workers=workers.count, use_gpu=workers.gpu, resources_per_worker={"CPU": workers.cpus}
        ),
        run_config=ray_train.RunConfig(
            name=run,
            storage_path=storage.at("checkpoints"),
            failure_config=ray_train.FailureConfig(max_failures=2),
            checkpoint_config=ray_train.CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        trainer.fit()
    except ray_train.TrainingFailedError as error:
        raise TrainingError(f"training failed ({_cause(error)})", item=name) from error


def _cause(error: Exception) -> str:
    """The last line of what the worker raised, which is its own message."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def fit_all(fits: Sequence[Callable[[], None]], at_once: int, board: Any, progress: JobProgress) -> None:
    """Run trainings side by side and draw what they post to the board; what one of them raises."""
    pool = ThreadPoolExecutor(min(at_once, len(fits)))
    futures: list[Future[None]] = [pool.submit(one) for one in fits]
    try:
        watch(board, progress, lambda: not wait(futures, timeout=0).not_done)
        for future in futures:
            future.result()
    finally:
        # An interrupt must not wait for the trainings that run, let alone for those that are queued.
        pool.shutdown(wait=False, cancel_futures=True)


def place() -> tuple[int, int]:
    """In a worker: its rank, and how many workers there are."""
    context = ray_train.get_context()
    return context.get_world_rank(), context.get_world_size()


def resume() -> tuple[dict[str, Tensor] | None, list[dict[str, Any]]]:
    """In a worker: state and rows of the last checkpoint, or that there are none."""
    checkpoint = ray_train.get_checkpoint()
    if checkpoint is None:
        return None, []
    with checkpoint.as_directory() as folder:
        lines = Path(folder, HISTORY).read_text(encoding="utf-8").splitlines()
        return load_file(Path(folder) / _STATE), [json.loads(line) for line in lines]


def report(state: Mapping[str, Tensor], history: Sequence[dict[str, Any]], storage: Storage) -> None:
    """In every worker after an epoch: rank 0 stores a checkpoint, and the rows so far in the training's folder too."""
    lines = "".join(json.dumps(row) + "\n" for row in history)
    rank, _ = place()
    checkpoint = None
    with tempfile.TemporaryDirectory() as folder:
        if rank == 0:
            save_file(dict(state), Path(folder) / _STATE)
            Path(folder, HISTORY).write_text(lines, encoding="utf-8")
            storage.write(HISTORY, lines.encode())
            checkpoint = ray_train.Checkpoint.from_directory(folder)
        ray_train.report(history[-1], checkpoint=checkpoint)
