"""What a classifier is, whatever its kind: whatever can change its answers, or what they mean."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from stl_ray.models.classifier import Classifier
from stl_ray.models.functions import source_digest
from stl_ray.models.registry import is_function


def classifier_identity(classifier: Classifier) -> dict[str, Any]:
    """The identity of a classifier, JSON-able: its architecture, weights, normalisation and classes.

    Of a user's `module:function` also the digest of its source (`functions.source_digest`); where that lies, and where weights were
    read from, changes nothing.

    Raises:
        ConfigError: the source of a function cannot be read.
    """
    identity = {
        "architecture": classifier.architecture,
        "weights": _digest(classifier.backbone),
        "mean": classifier.mean.flatten().tolist(),
        "std": classifier.std.flatten().tolist(),
        "classes": hashlib.sha256("\0".join(classifier.class_names).encode()).hexdigest(),
    }
    if is_function(classifier.architecture):
        identity["source"] = source_digest(classifier.architecture)
    return identity


def _digest(network: nn.Module) -> str:
    """The digest of every weight and buffer, by name."""
    total = hashlib.sha256()
    for name, tensor in (*sorted(network.state_dict().items()), *sorted(network.named_buffers())):
        total.update(name.encode() + b"\0" + _bytes(tensor))
    return total.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    values = tensor.detach().cpu().contiguous()
    kind = f"{values.dtype} {tuple(values.shape)}\0".encode()
    return kind + values.reshape(-1).view(torch.uint8).numpy().tobytes()
