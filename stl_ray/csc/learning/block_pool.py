"""Pools of blocks: in one process (`LocalBlockPool`), or on the actors of many nodes, which answer the same questions.

Answers come in the order of the blocks, so that sums over them are taken in one order and the result of learning does not
depend on which process holds which block.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from stl_ray.csc.learning.block import Block, CodingResult, HoldoutScore
from stl_ray.csc.learning.statistics import CodeStatistics


class BlockPool(Protocol):
    """Training blocks 0 .. blocks - 1, and blocks of held-out images; arguments as for the methods of `Block`."""

    @property
    def sizes(self) -> Sequence[int]:
        """Images of each training block."""
        ...

    def patches(self, per_image: int, blocks: Sequence[int]) -> list[Tensor]:
        """Patches of these training blocks."""
        ...

    def code(self, filters: Tensor) -> list[CodingResult]:
        """Coding totals of every training block."""
        ...

    def statistics(self, filters: Tensor, blocks: Sequence[int]) -> list[CodeStatistics]:
        """Code statistics of these training blocks."""
        ...

    def local_filters(self, filters: Tensor, starts: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
        """Filters of every training block: starts, targets and the answer are (blocks, K, C, S, S)."""
        ...

    def judge(self, filters: Tensor) -> list[HoldoutScore]:
        """Scores of every block of held-out images."""
        ...


class LocalBlockPool:
    """Blocks in this process."""

    def __init__(self, blocks: Sequence[Block], holdout: Sequence[Block]) -> None:
        self._blocks, self._holdout = blocks, holdout

    @property
    def sizes(self) -> Sequence[int]:
        """See `BlockPool.sizes`."""
        return [len(block) for block in self._blocks]

    def patches(self, per_image: int, blocks: Sequence[int]) -> list[Tensor]:
        """See `BlockPool.patches`."""
        return [self._blocks[number].patches(per_image) for number in blocks]

    def code(self, filters: Tensor) -> list[CodingResult]:
        """See `BlockPool.code`."""
        return [block.code(filters) for block in self._blocks]

    def statistics(self, filters: Tensor, blocks: Sequence[int]) -> list[CodeStatistics]:
        """See `BlockPool.statistics`."""
        return [self._blocks[number].statistics(filters) for number in blocks]

    def local_filters(self, filters: Tensor, starts: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
        """See `BlockPool.local_filters`."""
        problems = zip(self._blocks, starts, targets, strict=True)
        return torch.stack([block.local_filters(filters, start, target, penalty) for block, start, target in problems])

    def judge(self, filters: Tensor) -> list[HoldoutScore]:
        """See `BlockPool.judge`."""
        return [block.judge(filters) for block in self._holdout]
