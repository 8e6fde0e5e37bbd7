"""The estimate of a job by its name."""

import importlib

from stl_ray.config import Experiment
from stl_ray.errors import IncompleteRunError
from stl_ray.pipeline.estimate.attack import attack_steps
from stl_ray.pipeline.estimate.evaluate import evaluate_steps
from stl_ray.pipeline.estimate.fit import fit_steps
from stl_ray.pipeline.estimate.shards import shard_steps
from stl_ray.pipeline.estimate.steps import JobEstimate
from stl_ray.pipeline.estimate.train import train_steps
from stl_ray.store import Storage


def estimate(job: str, experiment: Experiment) -> JobEstimate:
    """What a job would take; needs a Ray that is connected.

    Raises:
        IncompleteRunError: if the inputs are not there, or the sample cannot be made.
        ConfigError: if not even one worker fits.
    """
    if job == "fit":
        return JobEstimate(fit_steps(experiment))
    if job == "train":
        return JobEstimate(train_steps(experiment))
    if job == "report":
        if not Storage.open(experiment.root).names("evaluate"):
            raise IncompleteRunError("there are no scores yet; run `stl-ray evaluate` first", item=experiment.root)
        return JobEstimate([])  # seconds, and a few megabytes
    if job == "attack":
        return JobEstimate(attack_steps(experiment))
    if job == "evaluate":
        return JobEstimate(evaluate_steps(experiment))
    return JobEstimate(shard_steps(importlib.import_module(f"stl_ray.pipeline.{job}").plan(experiment), experiment))
