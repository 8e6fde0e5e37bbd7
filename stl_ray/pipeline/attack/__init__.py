"""ATTACK: clean test shards and a classifier -> adversarial shards (attacks/NAME).

target        the classifier that a set is crafted on
calibration   what needs a pass over the data before any shard
job           the shards
"""

from stl_ray.pipeline.attack.job import plan, run

__all__ = ["plan", "run"]
