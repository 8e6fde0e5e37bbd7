"""TRAINING: classifiers and the space's autoencoder, in plain torch; whoever distributes it wraps it from outside.

classifier     one generator that trains a classifier and yields after every epoch; progress: what it tells of itself
autoencoder    the same for the denoising autoencoder
denoising      one epoch of it
strata         from latents to the router, and the cluster of every training image
dictionaries   which images a dictionary is learned from
space          the whole stratified space, `fit_space` on one machine
recipe         the optimizer, the learning rate step by step, the averaged weights
adversarial    images attacked while training; front: a defense as a layer before the classifier
images         what training reads images from; pack: a dataset's images on a node's own disk; packing: how it is made
loader         batches, read and augmented ahead of the steps by other processes
batches        the order of an epoch, its batches, and the part of each worker
prepared       from a batch to what a step sees of it
views          what training sees of an image, by (seed, epoch, image id); augmentation: padded crops and flips
sizes          the sizes of an epoch, and whether the network takes them
mixing         mixup and CutMix
validation     loss and accuracy on images as they are
labels         labels that fit the classes, and their balance
finite         losses, by the ids of their images, and weights that are not finite
state          an interrupted training as tensors
"""

from stl_ray.training.augmentation import augment
from stl_ray.training.autoencoder import AutoencoderEpoch, train_autoencoder
from stl_ray.training.classifier import train_classifier, trained_weights
from stl_ray.training.dictionaries import UNIVERSAL, DictionarySample, LearnedDictionary, sample_dictionaries
from stl_ray.training.front import front_of
from stl_ray.training.images import ImagesInMemory, TrainingImages
from stl_ray.training.labels import balance, class_counts, validate_labels
from stl_ray.training.loader import Share
from stl_ray.training.pack import ImagePack, packed
from stl_ray.training.packing import audited
from stl_ray.training.progress import EpochMetrics, Live, Watch
from stl_ray.training.sizes import require_sizes
from stl_ray.training.space import assemble, fit_space, quality_of
from stl_ray.training.strata import Strata, find_strata

__all__ = [
    "UNIVERSAL",
    "AutoencoderEpoch",
    "DictionarySample",
    "EpochMetrics",
    "ImagePack",
    "ImagesInMemory",
    "LearnedDictionary",
    "Live",
    "Share",
    "Strata",
    "TrainingImages",
    "Watch",
    "assemble",
    "audited",
    "augment",
    "balance",
    "class_counts",
    "find_strata",
    "fit_space",
    "front_of",
    "packed",
    "quality_of",
    "require_sizes",
    "sample_dictionaries",
    "train_autoencoder",
    "train_classifier",
    "trained_weights",
    "validate_labels",
]
