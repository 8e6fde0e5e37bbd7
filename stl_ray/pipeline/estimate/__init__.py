"""ESTIMATE: what a job would take, before it runs (`stl-ray JOB CONFIG --dry-run`). Nothing is written.

steps      an estimate: steps of so many units, bytes and seconds
sampling   samples of the work, made by Ray tasks
shards     of a job on the shard runner, from some rows that are really made
fit        of `fit`, from some images on which every one of its steps is really done
networks   of the training of defenses' networks, which is a part of `fit`
train      of `train`, from one epoch on some images
attack     of `attack`: its shards, and the calibrations before them
detectors  of the calibrations of detectors
evaluate   of `evaluate`: these, its shards, and the attacks of the tiers
adaptive   of the attacks of `evaluate` that know of the defense and their checks, whose work is counted
job        of every job by its name
"""

from stl_ray.pipeline.estimate.job import estimate
from stl_ray.pipeline.estimate.steps import JobEstimate, StepEstimate

__all__ = ["JobEstimate", "StepEstimate", "estimate"]
