"""What a job would take, before it does it (`stl-ray JOB CONFIG --dry-run`). Nothing is written.

steps      an estimate: steps of so many units, bytes and seconds
shards     of a job on the shard runner, from some rows that are really made
fitting    of `fit`, from some images on which every one of its steps is really done
tiers      of the attacks of `evaluate` and their checks, whose work is counted
training   of `train`, from one epoch on some images
job        of every job by its name
"""

from stl_ray.stages.estimating.job import estimate
from stl_ray.stages.estimating.steps import JobEstimate, StepEstimate

__all__ = ["JobEstimate", "StepEstimate", "estimate"]
