"""TRAIN: clean and purified shards -> classifiers (train/CLASSIFIER).

plan          which classifiers, from what
job           the trainings, by Ray Train
tensorboard   the rows of a training as an event file
"""

from stl_ray.pipeline.train.job import run

__all__ = ["run"]
