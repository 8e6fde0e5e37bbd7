"""The estimate of `evaluate`: detectors, predictions, and the attacks of the tiers with their checks."""

from stl_ray.config import Experiment
from stl_ray.pipeline.estimate.adaptive import tier_steps
from stl_ray.pipeline.estimate.detectors import detector_steps
from stl_ray.pipeline.estimate.shards import shard_steps
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.pipeline.evaluate import plan
from stl_ray.pipeline.evaluate.draws import plan_draws
from stl_ray.pipeline.evaluate.job import detectors_of
from stl_ray.pipeline.evaluate.perturbations import plan_perturbations
from stl_ray.pipeline.inputs import with_solver


def evaluate_steps(experiment: Experiment) -> list[StepEstimate]:
    """A step for each calibration of a detector that is not made yet, each cell, draws, each measure of perturbations, and each part of the tiers; needs Ray.

    Raises:
        IncompleteRunError: if the inputs are not there, or the sample cannot be made.
        ConfigError: if not even one actor fits.
    """
    steps, stand_ins = detector_steps(detectors_of(with_solver(experiment)))
    steps += shard_steps(plan(experiment, stand_ins), experiment)
    for plan_more in (plan_draws, plan_perturbations):
        if (job := plan_more(with_solver(experiment))) is not None:
            steps += shard_steps(job, experiment)
    return [*steps, *tier_steps(experiment, stand_ins)]
