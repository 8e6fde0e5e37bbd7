"""DICTIONARY LEARNING: filters that code given images sparsely.

constraint   the set that filters are learned in
sums         sums that no number of threads changes
statistics   all that the update of filters needs to know of codes
update       the filters' half: for everyone, and for one block
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
