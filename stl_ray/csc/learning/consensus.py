"""Consensus dictionary learning: every block has filters of its own, and all are made to agree.

    minimise over d_n and d in C   sum_n Q_n(d_n)    subject to d_n = d for every block n

by ADMM for fixed codes: each block answers with its filters near d minus its multiplier, the mean of all answers is
projected onto C, and the multipliers take up what is left of the disagreement. Only filters and multipliers travel,
never images, codes or statistics. Source: Choudhury et al. 2017, "Consensus Convolutional Sparse Coding", section 3, who
solve for filters as large as an image, with one penalty for all of them.
"""

import torch
from torch import Tensor

from stl_ray.csc.learning.block_pool import BlockPool
from stl_ray.csc.learning.constraint import ConstraintSet
from stl_ray.csc.learning.update import weights_of

ROUNDS = 5
"""Rounds of ADMM for each coding of the images."""

PENALTY = 2.0
"""rho_k relative to the blocks' mean usage of filter k."""

Memory = dict[str, Tensor]


def consensus_update(
    pool: BlockPool, filters: Tensor, constraint: ConstraintSet, memory: Memory
) -> tuple[Tensor, float, Memory]:
    """Code all images for `filters`, then find filters that suit all codes.

    Args:
        pool: holds the blocks.
        filters: (K, C, S, S) in C.
        constraint: C.
        memory: empty, or what the last update left: `local` and `multiplier`, each (blocks, K, C, S, S).

    Returns:
        The new filters, the mean training objective of the codes for the old ones, and the memory.
    """
    codings = pool.code(filters)
    objective = sum(coding.objective for coding in codings) / sum(coding.images for coding in codings)
    penalty = PENALTY * weights_of(torch.stack([coding.usage for coding in codings]).mean(dim=0))
    local = memory.get("local", filters.expand(len(codings), *filters.shape))
    multiplier = memory.get("multiplier", filters.new_zeros(local.shape))
    agreed = filters
    for _ in range(ROUNDS):
        local = pool.local_filters(filters, local, agreed - multiplier / penalty, penalty)
        agreed = constraint.project((local + multiplier / penalty).mean(dim=0))
        multiplier = multiplier + penalty * (local - agreed)
    return agreed, objective, {"local": local, "multiplier": multiplier}
