"""TRAINING: classifiers and the space's autoencoder, in plain torch; whoever distributes it wraps it from outside.

classifier     one generator that trains a classifier and yields after every epoch
autoencoder    the same for the denoising autoencoder
denoising      one epoch of it
strata         from latents to the router, and the cluster of every training image
dictionaries   which images a dictionary is learned from
space          the whole stratified space, `fit_space` on one machine
recipe         the optimizer and the learning rate, step by step
batches        the order of an epoch, its batches, and the part of each worker
augmentation   random crops and flips by (seed, epoch, image id)
labels         labels that fit the classes
state          an interrupted training as tensors
"""

from stl_ray.training.augmentation import augment
from stl_ray.training.autoencoder import AutoencoderEpoch, train_autoencoder
from stl_ray.training.classifier import EpochMetrics, train_classifier
from stl_ray.training.dictionaries import UNIVERSAL, DictionarySample, LearnedDictionary, sample_dictionaries
from stl_ray.training.labels import validate_labels
from stl_ray.training.space import assemble, fit_space, quality_of
from stl_ray.training.strata import Strata, find_strata

__all__ = [
    "UNIVERSAL",
    "AutoencoderEpoch",
    "DictionarySample",
    "EpochMetrics",
    "LearnedDictionary",
    "Strata",
    "assemble",
    "augment",
    "find_strata",
    "fit_space",
    "quality_of",
    "sample_dictionaries",
    "train_autoencoder",
    "train_classifier",
    "validate_labels",
]
