"""The estimate of the calibrations of detectors, from some images; what is estimated after them has these in their place."""

import time
from collections.abc import Iterable

from stl_ray.defenses import Calibration, Detecting
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.detectors import DetectorFit, calibrate
from stl_ray.pipeline.estimate.sampling import sample
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.pipeline.inputs import training_images

_SAMPLE = 256
"""Images: a detector needs some, and few of some thousand."""


def detector_steps(fits: Iterable[DetectorFit]) -> tuple[list[StepEstimate], dict[str, Calibration]]:
    """A step for each detector that is not calibrated yet, and by folder its calibration to some images; needs Ray.

    Raises:
        IncompleteRunError: the sample cannot be made.
    """
    steps, stand_ins = [], {}
    for fit in {fit.folder: fit for fit in fits}.values():
        if fit.stored() is None:
            resources = fit.experiment.ray
            step, stand_ins[fit.folder] = sample(
                _measured, fit, resources=resources, cpus=resources.cpus_per_actor, gpus=resources.gpus_per_actor,
                item=fit.folder,
            )  # fmt: skip
            steps.append(step)
    return steps, stand_ins


def _measured(fit: DetectorFit) -> tuple[StepEstimate, Calibration]:
    experiment = fit.experiment
    defense = make_defenses(experiment, names=[fit.defense])[fit.defense]
    if not isinstance(defense, Detecting):
        raise AssertionError(f"{fit.defense} has no detector")
    total = len(defense.chosen(training_images(experiment).column("id"), experiment.seed))
    start = time.monotonic()
    arrays, images = calibrate(fit, max(_SAMPLE, 2 * defense.fewest))
    seconds = (time.monotonic() - start) / images * total
    return StepEstimate(
        fit.folder, "images", total, total, float(sum(a.nbytes for a in arrays.values())), seconds, 1
    ), arrays
