"""Classifiers on disk: an artifact of kind `model`, whose tensors are the backbone's plain state dict.

`model.json` holds what rebuilds the classifier (architecture, class names, normalisation) beside what its maker
recorded (metrics, configuration, the digest of what it was trained on).
"""

from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from stl_ray.errors import ArtifactError, ConfigError
from stl_ray.models.classifier import Classifier
from stl_ray.models.registry import build_classifier
from stl_ray.store import Storage, load_artifact, save_artifact

KIND = "model"
VERSION = 1


def save_classifier(folder: str, classifier: Classifier, meta: Mapping[str, Any]) -> str:
    """Write a classifier and return the artifact's digest.

    Args:
        folder: path or URI.
        classifier: what to write.
        meta: JSON-able record of its making.

    Raises:
        StorageError: the folder cannot be written to.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in classifier.backbone.state_dict().items()}
    rebuilding = {
        "architecture": classifier.architecture,
        "class_names": list(classifier.class_names),
        "mean": classifier.mean.flatten().tolist(),
        "std": classifier.std.flatten().tolist(),
    }
    return save_artifact(folder, KIND, VERSION, arrays, {**meta, **rebuilding})


def load_classifier(folder: str) -> Classifier:
    """Read a classifier that `save_classifier` wrote: on the CPU, in eval mode.

    Raises:
        ArtifactError: it is missing, altered, of another version, or does not fit its architecture.
    """
    artifact = load_artifact(folder, KIND, VERSION)
    meta = artifact.meta
    try:
        classifier = build_classifier(
            meta["architecture"], meta["class_names"], seed=0, mean=meta["mean"], std=meta["std"]
        )
    except (KeyError, ConfigError) as error:
        raise ArtifactError(f"not a classifier of this version ({error})", item=folder) from error
    _fill(classifier, {name: torch.tensor(array) for name, array in artifact.arrays.items()}, folder)
    return classifier.eval()


def load_weights(classifier: Classifier, uri: str) -> None:
    """Put a plain safetensors state dict into the classifier's backbone.

    The step counters of batch norm, which many published files leave out, may be missing.

    Args:
        classifier: is filled in place; its normalisation must be the one that the weights were trained with.
        uri: path or URI of the safetensors file.

    Raises:
        StorageError: there is no such file.
        ArtifactError: it is not a safetensors file, or its tensors do not fit the architecture.
    """
    storage, name = Storage.of_file(uri)
    try:
        tensors = safetensors.torch.load(storage.read(name))
    except SafetensorError as error:
        raise ArtifactError(f"not a safetensors file ({error})", item=uri) from error
    _fill(classifier, tensors, uri)


def _fill(classifier: Classifier, tensors: Mapping[str, Tensor], item: str) -> None:
    wanted = classifier.backbone.state_dict()
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    problems = [f"{name} is missing" for name in sorted(needed - tensors.keys())]
    problems += [f"{name} is unknown" for name in sorted(tensors.keys() - wanted.keys())]
    problems += [
        f"{name} is {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}"
        for name, tensor in tensors.items()
        if name in needed and tensor.shape != wanted[name].shape
    ]
    if problems:
        raise ArtifactError(
            f"the weights do not fit {classifier.architecture} with {len(classifier.class_names)} classes: "
            + "; ".join(problems[:5])
            + (f" and {len(problems) - 5} more" if len(problems) > 5 else ""),
            item=item,
        )
    classifier.backbone.load_state_dict(tensors, strict=False)
