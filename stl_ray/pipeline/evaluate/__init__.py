"""EVALUATE: adversarial and clean test shards, classifiers, defenses -> predictions and scores (evaluate/).

job         every defense x (clean, every attack set) x (vanilla, retrained)
subset      some images of a dataset, the same for every defense
adaptive/   attacks that know of the defense, and the checks on them
gallery     images for the report
"""

from stl_ray.pipeline.evaluate.job import plan, run

__all__ = ["plan", "run"]
