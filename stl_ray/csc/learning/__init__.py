"""DICTIONARY LEARNING: filters that code given images sparsely.

constraint   the set that filters are learned in
sums         sums that do not depend on the number of threads
statistics   sufficient statistics of codes for the update of filters
update       the update of filters: over all blocks, and for one
block        images as their worker holds them
block_pool   pools of blocks, in one process
consensus    every block's own filters, made to agree
online       a few blocks after the others
alternation  codes and filters in turn, its state and its stopping rule
"""

from stl_ray.csc.learning.alternation import LearningStep, learn, learn_dictionary, partition
from stl_ray.csc.learning.block import Block, CodingResult, HoldoutScore
from stl_ray.csc.learning.block_pool import BlockPool, LocalBlockPool
from stl_ray.csc.learning.statistics import CodeStatistics

__all__ = [
    "Block",
    "BlockPool",
    "CodeStatistics",
    "CodingResult",
    "HoldoutScore",
    "LearningStep",
    "LocalBlockPool",
    "learn",
    "learn_dictionary",
    "partition",
]
