"""Classifiers on disk: an artifact of kind `model`, whose tensors are the backbone's plain state dict.

`model.json` holds what rebuilds the classifier (architecture, class names, preprocessing, and of a user's `module:function`
the digest of its source) beside what its maker recorded (metrics, configuration, the dataset, and the defense and space
whose output it was trained on).
"""

import warnings
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from stl_ray.config.classifiers import is_function
from stl_ray.errors import ArtifactError, ConfigError
from stl_ray.models.classifier import Classifier
from stl_ray.models.functions import source_digest
from stl_ray.models.registry import build_classifier
from stl_ray.models.weights import fill
from stl_ray.store import load_artifact, save_artifact
from stl_ray.text import plain

KIND = "model"
VERSION = 2


class Digested(Protocol):
    """An object with a digest, such as a `QuasiNaturalSpace`."""

    @property
    def digest(self) -> str:
        """The digest of its content."""
        ...


def save_classifier(folder: str, classifier: Classifier, meta: Mapping[str, Any]) -> str:
    """Write a classifier and return the artifact's digest.

    Args:
        folder: path or URI.
        classifier: what to write.
        meta: JSON-able record of its making; under `defense` the identity of the defense on whose output it was trained,
            with the digest of its `space` if it has one.

    Raises:
        StorageError: the folder cannot be written to.
        ConfigError: the source of a user's function cannot be read.
    """
    arrays = {name: _array(tensor) for name, tensor in classifier.backbone.state_dict().items()}
    rebuilding: dict[str, Any] = {
        "architecture": classifier.architecture,
        "class_names": list(classifier.class_names),
        "preprocessing": {
            "layout": "(B, 3, H, W)",
            "channels": "RGB",
            "range": [0.0, 1.0],
            "mean": classifier.mean.flatten().tolist(),
            "std": classifier.std.flatten().tolist(),
        },
    }
    if is_function(classifier.architecture):
        rebuilding["source"] = source_digest(classifier.architecture)
    return save_artifact(folder, KIND, VERSION, arrays, {**meta, **rebuilding})


def load_classifier(folder: str, space: Digested | None = None) -> Classifier:
    """Read a classifier that `save_classifier` wrote: on the CPU, in eval mode.

    A user's function is imported and called again, and gets the weights; its source must be the same, since weights mean
    nothing without their code.

    Args:
        folder: path or URI.
        space: the space that is to stand in front of it, if any: the one that the layer projects onto, so
            `space.universal()` for the unclustered STL. Where the classifier was trained on another space's output, or on
            none's, a UserWarning says so and gives both digests.

    Raises:
        ArtifactError: it is missing, altered, of another version, does not fit its architecture, or its function's source
            is another.
    """
    artifact = load_artifact(folder, KIND, VERSION)
    meta = artifact.meta
    try:
        architecture, preprocessing = meta["architecture"], meta["preprocessing"]
        names, mean, std = meta["class_names"], preprocessing["mean"], preprocessing["std"]
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"not a classifier of this version ({error})", item=folder) from error
    try:
        if is_function(architecture):
            _require_source(folder, architecture, meta.get("source"))
        classifier = build_classifier(architecture, names, seed=0, mean=mean, std=std)
    except ConfigError as error:
        raise ArtifactError(f"its classifier cannot be built ({error})", item=folder) from error
    fill(classifier, {name: torch.tensor(array) for name, array in artifact.arrays.items()}, folder)
    if space is not None:
        _compare(folder, meta.get("defense"), space)
    return classifier.eval()


def _array(tensor: Tensor) -> Any:
    """As NumPy, which has no bfloat16: as float32, whose values it is a part of."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().cpu().numpy()


def _require_source(folder: str, reference: str, saved: object) -> None:
    here = source_digest(reference)
    if here != saved:
        raise ArtifactError(
            f"the source of {reference} is another than that of these weights; train again, or put the source back",
            item=folder, expected=saved, got=here,
        )  # fmt: skip


def _compare(folder: str, defense: Mapping[str, Any] | None, space: Digested) -> None:
    trained_on = (defense or {}).get("space")
    if trained_on == space.digest:
        return
    if trained_on is not None:
        origin = f"the output of space {trained_on}"
    else:
        origin = f"the output of {defense['defense']}" if defense else "clean images, without a space"
    warnings.warn(
        f"{plain(folder)}: this classifier was trained on {origin}, and is loaded for space {space.digest}; its accuracy behind "
        "that space was not what it was trained for",
        UserWarning,
        stacklevel=3,
    )
