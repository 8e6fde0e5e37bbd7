"""What a classifier is, whatever its kind: whatever can change its answers, or what they mean."""

import hashlib
from typing import Any

from stl_ray.config.classifiers import is_function
from stl_ray.models.classifier import Classifier
from stl_ray.models.functions import source_digest
from stl_ray.models.module_digest import module_digest


def classifier_identity(classifier: Classifier) -> dict[str, Any]:
    """The identity of a classifier, JSON-able: its architecture, weights, normalisation and classes.

    Of a user's `module:function` also the digest of its source (`functions.source_digest`), under its name; where that lies,
    and where weights were read from, changes nothing.

    Raises:
        ConfigError: the source of a function cannot be read.
    """
    identity: dict[str, Any] = {
        "architecture": classifier.architecture,
        "weights": module_digest(classifier.backbone),
        "mean": classifier.mean.flatten().tolist(),
        "std": classifier.std.flatten().tolist(),
        "classes": hashlib.sha256("\0".join(classifier.class_names).encode()).hexdigest(),
    }
    if is_function(classifier.architecture):
        identity["source"] = {classifier.architecture: source_digest(classifier.architecture)}
    return identity
