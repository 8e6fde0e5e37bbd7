"""ATTACK: clean test shards and a classifier -> adversarial shards (attack/CLASSIFIER/SET).

sets          the sets of an experiment, each for every classifier that it is crafted on
target        the classifier that a set is crafted on
calibration   what a set needs from a pass over the data before any shard
job           the shards
"""

from stl_ray.pipeline.attack.job import plan, run

__all__ = ["plan", "run"]
