"""A dictionary's pool of blocks on Ray: actors hold the images, only filters and sums travel.

Ray restarts a worker that dies, wherever there is room; it loads its blocks and answers the open question. A block's answer
depends on the question alone (`stl_ray.csc.learning.block`), so a restart changes no result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import ray
import torch
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import Tensor

from stl_ray import __version__
from stl_ray.csc.learning import Block, CodeStatistics, CodingResult, HoldoutScore
from stl_ray.errors import ConfigError, StlRayError, TrainingError
from stl_ray.images import decode, to_tensor
from stl_ray.pipeline.batches import STORED_PIXELS, rows_at
from stl_ray.pipeline.fit.space_fit import SpaceFit
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.session import device_of
from stl_ray.store import Dataset

HELD_BYTES = 2**30
"""Bytes of high bands that a worker holds; the least recently used block is dropped, and read again on demand."""

DEATHS = 3
"""Deaths that a worker is restarted after; one more fails its dictionary."""


@dataclass(frozen=True)
class BlockRows:
    """A block as the positions of its images in the dataset of samples, in the block's order."""

    positions: tuple[int, ...]

    def load(self, samples: Dataset, fit: SpaceFit, method: str) -> Block:
        """Read and decode the images."""
        rows = dict(zip(sorted(self.positions), rows_at(samples, sorted(self.positions)), strict=True))
        device = device_of(fit.experiment.ray)
        images = [
            to_tensor([decode(rows[position]["image"]["bytes"], max_pixels=STORED_PIXELS)])[0].to(device)
            for position in self.positions
        ]
        ids = [rows[position]["id"] for position in self.positions]
        return Block(images, ids, fit.space.dictionary, seed=fit.seed, method=method)


class Worker:
    """Holds some blocks and answers for them."""

    def __init__(
        self, fit: SpaceFit, samples: Dataset, blocks: dict[int, BlockRows], method: str, version: str
    ) -> None:
        if version != __version__:
            raise ConfigError("a node has another version of stl-ray", expected=version, got=__version__)
        bind(fit.experiment.ray.cpus_per_actor)
        self._load = {number: (rows, samples, fit, method) for number, rows in blocks.items()}
        self._blocks: dict[int, Block] = {}

    def answer(self, number: int, question: str, *arguments: Any) -> Any:
        """The answer of a block's method `question`."""
        block = self._blocks.pop(number, None)
        if block is None:
            rows, samples, fit, method = self._load[number]
            block = rows.load(samples, fit, method)
        while self._blocks and block.bytes + sum(other.bytes for other in self._blocks.values()) > HELD_BYTES:
            self._blocks.pop(next(iter(self._blocks)))
        self._blocks[number] = block
        return getattr(block, question)(*arguments)


class RayBlockPool:
    """Blocks 0, 1, ... of training images, then those of the holdout, dealt to the workers in turn.

    Args:
        fit: the space, with root and Ray resources.
        name: of the dictionary, for errors.
        samples: the dataset of samples.
        blocks: of training images.
        holdout: blocks of held-out images.
        workers: actors to hold them; no more than there are blocks are started.
        method: of the solver.
    """

    def __init__(
        self,
        fit: SpaceFit,
        name: str,
        samples: Dataset,
        blocks: Sequence[BlockRows],
        holdout: Sequence[BlockRows],
        *,
        workers: int,
        method: str,
    ) -> None:
        self._name = name
        self._training, self._held = range(len(blocks)), range(len(blocks), len(blocks) + len(holdout))
        self._sizes = [len(block.positions) for block in blocks]
        config = fit.experiment.ray
        numbered = dict(enumerate([*blocks, *holdout]))
        count = min(workers, len(blocks))
        # All bundles or none: two pools that each hold a part of what they need would wait for each other for ever.
        bundle = {"CPU": config.cpus_per_actor} | ({"GPU": config.gpus_per_actor} if config.gpus_per_actor else {})
        # Placement groups have no fallback.
        labels = [dict(config.label_selector)] * count if config.label_selector else None
        self._bundles = placement_group([bundle] * count, bundle_label_selector=labels)
        make = ray.remote(Worker).options(
            num_cpus=config.cpus_per_actor,
            num_gpus=config.gpus_per_actor or None,
            max_restarts=DEATHS,
            max_task_retries=DEATHS,
            scheduling_strategy=PlacementGroupSchedulingStrategy(self._bundles),
        )
        # Actor handles, whose methods Ray does not declare.
        self._workers: list[Any] = [
            make.remote(fit, samples, {n: b for n, b in numbered.items() if n % count == turn}, method, __version__)
            for turn in range(count)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not ray.is_initialized():
            return  # after an interrupt; Ray would start anew
        for worker in self._workers:
            ray.kill(worker)
        remove_placement_group(self._bundles)

    @property
    def sizes(self) -> Sequence[int]:
        """See `stl_ray.csc.learning.BlockPool`, here and below."""
        return self._sizes

    def patches(self, per_image: int, blocks: Sequence[int]) -> list[Tensor]:
        """Patches of these training blocks."""
        return self._ask(blocks, "patches", [(per_image,)] * len(blocks))

    def code(self, filters: Tensor) -> list[CodingResult]:
        """Coding results of every training block."""
        return self._ask(self._training, "code", [(filters,)] * len(self._training))

    def statistics(self, filters: Tensor, blocks: Sequence[int]) -> list[CodeStatistics]:
        """Code statistics of these training blocks."""
        return self._ask(blocks, "statistics", [(filters,)] * len(blocks))

    def local_filters(self, filters: Tensor, starts: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
        """Local filters of every training block."""
        questions = [
            (filters, start.clone(), target.clone(), penalty) for start, target in zip(starts, targets, strict=True)
        ]
        return torch.stack(self._ask(self._training, "local_filters", questions))

    def judge(self, filters: Tensor) -> list[HoldoutScore]:
        """Scores of every block of held-out images."""
        return self._ask(self._held, "judge", [(filters,)] * len(self._held))

    def _ask(self, blocks: Sequence[int], question: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The answers in the order of the blocks."""
        tasks = [
            self._workers[number % len(self._workers)].answer.remote(number, question, *given)
            for number, given in zip(blocks, arguments, strict=True)
        ]
        try:
            answers: list[Any] = ray.get(tasks)
        except RayTaskError as error:
            # The cause alone, without the worker's stack, where it is an error of ours.
            raise (error.cause if isinstance(error.cause, StlRayError) else error) from None
        except RayError as error:
            raise TrainingError(_loss(error), item=self._name) from error
        return answers


def _loss(error: RayError) -> str:
    """How a worker was lost."""
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        return f"a worker died more than {DEATHS} times; see the Ray logs of this session"
    return f"a worker failed ({str(error).strip().splitlines()[-1]})"
