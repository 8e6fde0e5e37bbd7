"""Online dictionary learning: a few blocks are coded, their statistics join those of the blocks before, and the filters
move towards the minimum of what has been seen.

Older statistics fade, for they are of codes for poorer filters. A block is needed only when its turn comes, so that there
may be more images than fit in memory; statistics travel, as large as K^2 filters. Source: Mairal et al. 2010, for patches.
"""

from torch import Tensor

from stl_ray.csc.learning.block_pool import BlockPool
from stl_ray.csc.learning.constraint import ConstraintSet
from stl_ray.csc.learning.statistics import CodeStatistics
from stl_ray.csc.learning.update import update_filters

BLOCKS_AT_ONCE = 4
"""Blocks that one update codes, side by side where there are workers."""

FADING = 0.2
"""Weight of the older statistics in each update."""

Memory = dict[str, Tensor]


def online_update(
    pool: BlockPool, filters: Tensor, constraint: ConstraintSet, memory: Memory, *, iteration: int, lmbda: float
) -> tuple[Tensor, float, Memory]:
    """Code the next blocks for `filters`, then find filters that suit all codes so far.

    Args:
        pool: holds the blocks.
        filters: (K, C, S, S) in C.
        constraint: C.
        memory: empty, or what the last update left: the fields of `CodeStatistics`.
        iteration: from 0; decides which blocks are next.
        lmbda: the l1 weight.

    Returns:
        The new filters, the mean training objective of the new codes for the old filters, and the memory.
    """
    count = len(pool.sizes)
    turn = [(iteration * BLOCKS_AT_ONCE + offset) % count for offset in range(min(BLOCKS_AT_ONCE, count))]
    latest, *others = pool.statistics(filters, turn)
    for other in others:
        latest = latest.joined(other)
    statistics = latest.joined(CodeStatistics(**memory), FADING) if memory else latest
    return update_filters(filters, statistics, constraint), latest.objective(filters, lmbda), statistics.tensors()
