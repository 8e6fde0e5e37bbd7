"""TRAINING: classifiers and the stratified space, in plain torch; distribution wraps it from outside.

data/         the input of training: images on a node's disk, epochs in an order of (seed, epoch), augmentation, labels
classifier/   a generator that trains a classifier and yields after every epoch; adversarial training, also through a defense
space/        the autoencoder, the clusters, the dictionaries' images, and `fit_space`, the whole fit on one machine
"""

from stl_ray.training.classifier.loop import train_classifier, trained_weights
from stl_ray.training.classifier.metrics import Callbacks, EpochMetrics, EpochProgress
from stl_ray.training.data.cache import CachedImages, cached_images
from stl_ray.training.data.cache_build import audited
from stl_ray.training.data.labels import balance, class_counts, validate_labels
from stl_ray.training.data.loader import Share
from stl_ray.training.data.relabelled import Relabelled
from stl_ray.training.data.sizes import require_parts, require_sizes
from stl_ray.training.data.source import ImagesInMemory, TrainingImages
from stl_ray.training.space.autoencoder import AutoencoderEpoch, train_autoencoder
from stl_ray.training.space.clusters import Clustering, cluster_latents
from stl_ray.training.space.dictionaries import UNIVERSAL, DictionarySample, LearnedDictionary, sample_dictionaries
from stl_ray.training.space.fit_space import assemble, fit_space, quality_of

__all__ = [
    "UNIVERSAL",
    "AutoencoderEpoch",
    "CachedImages",
    "Callbacks",
    "Clustering",
    "DictionarySample",
    "EpochMetrics",
    "EpochProgress",
    "ImagesInMemory",
    "LearnedDictionary",
    "Relabelled",
    "Share",
    "TrainingImages",
    "assemble",
    "audited",
    "balance",
    "cached_images",
    "class_counts",
    "cluster_latents",
    "fit_space",
    "quality_of",
    "require_parts",
    "require_sizes",
    "sample_dictionaries",
    "train_autoencoder",
    "train_classifier",
    "trained_weights",
    "validate_labels",
]
