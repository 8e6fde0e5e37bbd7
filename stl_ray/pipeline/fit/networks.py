"""Networks that defenses are fitted with: trained by one Ray Train worker, from checkpoint to checkpoint.

One worker has the images of a whole batch, so that the result is that of a training in one process.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from ray.train.torch import get_device
from torch import Tensor

from stl_ray.pipeline.fitted import ArtifactFit
from stl_ray.runtime import ray_train
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.progress_actor import make_board
from stl_ray.runtime.ray_train import Workers, report, resume
from stl_ray.runtime.session import device_of
from stl_ray.runtime.side_by_side import run_side_by_side
from stl_ray.store import Storage


class Epoch(Protocol):
    """What is left of an epoch of a training."""

    def row(self) -> dict[str, Any]:
        """Its figures by name, JSON-able."""

    def state(self) -> dict[str, Tensor]:
        """Tensors on the CPU, from which training resumes."""


Training = Callable[[torch.device, Mapping[str, Tensor] | None], Iterator[Epoch]]
"""(where, state of the last epoch or None) -> the epochs that are left. Picklable."""


def training_folder(fit: ArtifactFit) -> str:
    """The folder of its checkpoints and of the curve of its losses, relative to the root."""
    return fit.step("training", [fit.recipe.kind, fit.settings])


def trained(fit: ArtifactFit, training: Training, epochs: int, identity: Mapping[str, Any]) -> dict[str, Tensor]:
    """Train, from the last checkpoint on; the state after the last epoch.

    Args:
        fit: what the network is for, with root and Ray resources.
        training: what is done in the worker.
        epochs: of it, all together.
        identity: whatever can change the result; JSON-able.

    Raises:
        ConfigError: the worker does not fit on the cluster.
        TrainingError: it cannot be trained, or its worker keeps dying.
    """
    resources, name = fit.experiment.ray, fit.recipe.kind
    gpu = device_of(resources) == "cuda"
    workers = Workers(
        1, resources.cpus_per_actor, gpu, waits=resources.autoscaling, label_selector=resources.label_selector
    )
    workers.trainings_at_once("ray.cpus_per_actor")
    storage = Storage.open(fit.experiment.root).below(training_folder(fit))
    with JobProgress(fit.label("training"), epochs, unit="epochs") as progress:
        board = make_board()
        settings = {
            "training": training, "name": name, "storage": storage, "identity": identity, "board": board,
            "cpus": resources.cpus_per_actor,
        }  # fmt: skip
        work = partial(ray_train.fit, _work, settings, workers, name=name, storage=storage, identity=identity)
        run_side_by_side([work], 1, board, progress)
        progress.complete()
    state, _ = resume(storage, identity)
    if state is None:
        raise AssertionError("a training that ended well has left no state")
    return state


def _work(settings: dict[str, Any]) -> None:
    """The Ray Train worker."""
    name, storage, identity, board = (settings[key] for key in ("name", "storage", "identity", "board"))
    training: Training = settings["training"]
    bind(settings["cpus"])
    state, rows = resume(storage, identity)
    board.resume.remote(name, len(rows))
    for epoch in training(get_device(), state):
        rows.append(epoch.row())
        board.reach.remote(name, len(rows), f"validation loss {rows[-1]['validation_loss']:.5f}")
        report(epoch.state(), rows, storage, identity)
