"""Dictionaries: one dictionary for all images and one for each cluster, learned side by side.

Learning resumes from the latest checkpoint; one is written every few iterations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from stl_ray import __version__
from stl_ray.config import RayConfig
from stl_ray.csc import Dictionary
from stl_ray.csc.learning import learn, partition
from stl_ray.errors import TrainingError
from stl_ray.pipeline.fit.block_workers import BlockRows, RayBlockPool
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.pipeline.inputs import with_solver
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.progress_actor import make_board
from stl_ray.runtime.session import device_of, require_worker_slots
from stl_ray.runtime.side_by_side import run_side_by_side
from stl_ray.store import Dataset, Storage, load_artifact, require_same, save_artifact
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.shards import sha256
from stl_ray.training import DictionarySample, LearnedDictionary

KIND, VERSION = "dictionary", 1

EVERY = 5
"""Iterations from one checkpoint to the next."""

_CHECKPOINT = "checkpoint-"


def run(
    fit: SpaceFit, drawn: Sequence[DictionarySample], samples: Dataset, ids: Sequence[str]
) -> dict[str, LearnedDictionary]:
    """Learn every dictionary that is not there yet; all of them by name.

    An image that was set aside when it was copied is missing from the samples that it was drawn for; the identity of a
    dictionary has the images that are left.

    Args:
        fit: the space, with root and Ray resources.
        drawn: the images of every dictionary, as indices into `ids`.
        samples: the dataset that holds them.
        ids: of all training images.

    Raises:
        ConfigError: if the cluster cannot hold one worker, or as many as were asked for.
        RunIdentityError: if there is a dictionary of another identity.
        TensorError: if images are too few or too flat to learn from.
        TrainingError: if a worker keeps dying, or a dictionary has no image left to learn from or to judge it by.
    """
    config = fit.space.dictionary
    method = with_solver(fit.experiment).solver.method
    row_of = {identifier: row for row, identifier in enumerate(samples.column("id"))}
    learnings = []
    for one in drawn:
        drawn_ids = ([ids[index] for index in part] for part in (one.learn, one.holdout))
        learned, held = ([row_of[name] for name in names if name in row_of] for names in drawn_ids)
        if not learned or not held:
            raise TrainingError(
                "every image to learn the dictionary from, or to judge it by, was set aside; mend what quarantine/ says "
                "and remove the folder, and the next fit copies the images again", item=samples.storage.root,
                expected=f"images for {one.name}",
            )  # fmt: skip
        learnings.append(_Learning(fit, one.name, samples, learned, held, method))
    missing = [learning for learning in learnings if not learning.done()]
    if missing:
        workers = dictionary_workers(fit.experiment.ray)
        at_once = min(workers, len(missing))
        total = config.iterations * len(learnings)
        done = config.iterations * (len(learnings) - len(missing))
        with JobProgress(fit.label("dictionaries"), total, unit="iterations", done=done) as progress:
            board = make_board()
            works = [partial(_learn, one, workers // at_once, board) for one in missing]
            run_side_by_side(works, at_once, board, progress)
    return {learning.name: learning.load() for learning in learnings}


def dictionary_workers(resources: RayConfig) -> int:
    """Workers of all dictionaries together: as many as asked for, or as fit."""
    wanted = resources.actors
    if resources.autoscaling and wanted is not None:
        return wanted
    fit = require_worker_slots(
        wanted or 1,
        cpus=resources.cpus_per_actor,
        gpus=resources.gpus_per_actor,
        selectors=resources.selectors[:1],  # as `RayBlockPool` has no fallback
        key="ray.actors",
    )
    return wanted or fit


def _learn(learning: "_Learning", workers: int, board: Any) -> None:
    """Learn one dictionary in a process of its own, whose updates of the filters take one worker's threads."""
    bind(learning.fit.experiment.ray.cpus_per_actor)
    learning.run(workers, board)


@dataclass(frozen=True)
class _Learning:
    """One dictionary to learn.

    Args:
        fit: the space, with root and Ray resources.
        name: of the dictionary.
        samples: the dataset of images.
        learn: rows of it to learn from.
        holdout: rows of it to judge by.
        method: of the solver.
    """

    fit: SpaceFit
    name: str
    samples: Dataset
    learn: list[int]
    holdout: list[int]
    method: str

    @property
    def _storage(self) -> Storage:
        return Storage.open(self.fit.experiment.root).below(self.fit.dictionary(self.name))

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "dictionary": self.fit.space.dictionary.model_dump(mode="json"),
            "seed": self.fit.seed,
            "samples": self.samples.digest,
            "images": sha256(canonical_json([self.learn, self.holdout])),
            "solver": self.method,
            "device": device_of(self.fit.experiment.ray),
            "stl_ray": __version__,
        }

    def done(self) -> bool:
        """Whether the dictionary was learned; refuses one of another identity."""
        storage = self._storage
        if not storage.exists(f"{KIND}.json"):
            return False
        require_same(storage.read_json(f"{KIND}.json")["meta"]["identity"], self._identity, storage.root)
        return True

    def load(self) -> LearnedDictionary:
        """The dictionary that was learned."""
        artifact = load_artifact(self._storage.root, KIND, VERSION)
        filters, meta = torch.from_numpy(artifact.arrays["filters"].copy()), artifact.meta
        dictionary = Dictionary(filters, meta["lmbda"], meta["norm"])
        return LearnedDictionary(dictionary, meta["curve"], len(self.learn), len(self.holdout))

    def run(self, workers: int, board: Any) -> None:
        """Learn the dictionary with as many workers, from its last checkpoint on."""
        config = self.fit.space.dictionary
        blocks, holdout = (
            [BlockRows(tuple(rows[index] for index in part)) for part in partition(len(rows), config.block)]
            for rows in (self.learn, self.holdout)
        )
        state, curve = self._checkpoint()
        board.resume.remote(self.name, len(curve))
        with RayBlockPool(
            self.fit, self.name, self.samples, blocks, holdout, workers=workers, method=self.method
        ) as pool:
            steps = learn(pool, config, seed=self.fit.seed, name=self.name, curve=tuple(curve), state=state)
            for step in steps:
                curve.append(step.row())
                state = step.state()
                board.post.remote(1, f"{self.name} iteration {step.iteration}: {step.holdout_objective:.4g}")
                if step.iteration % EVERY == 0:
                    self._keep(state, curve)
        if state is None:
            raise AssertionError("the configuration asks for at least one iteration")
        record = {"lmbda": config.lmbda, "norm": config.norm, "curve": curve, "identity": self._identity}
        save_artifact(self._storage.root, KIND, VERSION, {"filters": state["filters"].numpy()}, record)
        self._sweep(keep=None)
        board.post.remote(config.iterations - len(curve), "")

    def _checkpoint(self) -> tuple[dict[str, torch.Tensor] | None, list[dict[str, Any]]]:
        """State and curve of the last checkpoint that is whole."""
        latest = max((name for name in self._checkpoints() if name.endswith(".json")), default=None)
        if latest is None:
            return None, []
        artifact = load_artifact(self._storage.root, latest.removesuffix(".json"), VERSION)
        require_same(artifact.meta["identity"], self._identity, self._storage.root)
        return {name: torch.from_numpy(array.copy()) for name, array in artifact.arrays.items()}, artifact.meta["curve"]

    def _keep(self, state: dict[str, torch.Tensor], curve: list[dict[str, Any]]) -> None:
        """Write a checkpoint under a name of its own, then delete older ones: one is always whole."""
        name = f"{_CHECKPOINT}{len(curve):05d}"
        arrays = {key: tensor.numpy() for key, tensor in state.items()}
        save_artifact(self._storage.root, name, VERSION, arrays, {"curve": curve, "identity": self._identity})
        self._sweep(keep=name)

    def _sweep(self, keep: str | None) -> None:
        for file in self._checkpoints():
            if keep is None or not file.startswith(f"{keep}."):
                self._storage.delete(file)

    def _checkpoints(self) -> list[str]:
        return [file for file in self._storage.names() if file.startswith(_CHECKPOINT)]
