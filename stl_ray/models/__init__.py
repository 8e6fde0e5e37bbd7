"""CLASSIFIERS: their interface for attacks, the networks by name, and their checkpoints. Images are always in [0, 1].

protocol         `Victim`: logits and their vector-Jacobian product; `in_loop`: the same for one attack's loop; `against`: on labels
classifier       `Classifier`: a backbone with its normalisation inside
answers          what a network may answer, as logits
look             a look at a model before any work: answers, gradients, batches
inference_mode   gradients for callers within `torch.inference_mode()`
penultimate      the features that the last linear layer makes the logits of
prediction       the class of every image, whatever its batch
registry         architectures by reference: NAME of ours, torchvision:NAME, timm:NAME, module:function
torchvision_models  torchvision's networks and published weights
timm_models      timm's likewise; an optional extra
functions        networks of a user's own, and the digest of their source
identity         what a classifier is, of any kind
classes          the classes that a classifier answers, and which of them a data set's are
imagenet         ImageNet's 1000 classes, and what a name means among them
small_cnn        a network that one CPU core can train
cifar_resnet     the CIFAR ResNets of He et al.
thermometer      one of them behind a thermometer encoding
small_images     torchvision's ResNets and VGGs for 32 and 64 pixels
module_digest    the digest of a network's weights
initialisation   random weights from a seed
state_file       files of tensors by name, read without running code
state_dicts      the state dict that fits a network, under a checkpoint's keys and prefixes
published_classes whether published weights know a classifier's classes
weights          state dicts from files, checkpoints and published weights
checkpoint       safetensors + JSON
"""

from stl_ray.models.checkpoint import load_classifier as load
from stl_ray.models.checkpoint import save_classifier
from stl_ray.models.classes import classes_of, logits_of
from stl_ray.models.classifier import Classifier
from stl_ray.models.functions import source_digest
from stl_ray.models.identity import classifier_identity
from stl_ray.models.initialisation import seeded
from stl_ray.models.look import IMAGES as LOOKED_AT
from stl_ray.models.look import look
from stl_ray.models.module_digest import module_digest
from stl_ray.models.penultimate import penultimate
from stl_ray.models.prediction import check_classes, decided, likeliest, predict, tile_size
from stl_ray.models.protocol import Looping, ManyProducts, Refusing, Victim, against, in_loop, logits_and_vjps
from stl_ray.models.registry import build_classifier, check_classifier
from stl_ray.models.weights import check_weights, classes_in, load_weights, published_weights, weights_digest

__all__ = [
    "LOOKED_AT",
    "Classifier",
    "Looping",
    "ManyProducts",
    "Refusing",
    "Victim",
    "against",
    "build_classifier",
    "check_classes",
    "check_classifier",
    "check_weights",
    "classes_in",
    "classes_of",
    "classifier_identity",
    "decided",
    "in_loop",
    "likeliest",
    "load",
    "load_weights",
    "logits_and_vjps",
    "logits_of",
    "look",
    "module_digest",
    "penultimate",
    "predict",
    "published_weights",
    "save_classifier",
    "seeded",
    "source_digest",
    "tile_size",
    "weights_digest",
]
