"""Weights to start from: a state dict from a file, from a classifier of ours, or from torchvision's published weights."""

import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from stl_ray.errors import ArtifactError
from stl_ray.models.classifier import Classifier
from stl_ray.models.published_classes import require_same_classes
from stl_ray.models.state_dicts import find_state, require_fit
from stl_ray.models.state_file import read_state
from stl_ray.options import named
from stl_ray.store import Storage
from stl_ray.store.shards import sha256

PUBLISHED = re.compile(r"^\w+_Weights\.\w+$")
"""A member of torchvision's weights enums, such as ResNet50_Weights.IMAGENET1K_V2."""

_OURS = "model.safetensors"


def load_weights(classifier: Classifier, uri: str) -> None:
    """Put given weights into the classifier's backbone.

    The step counters of batch norm, which many published files leave out, may be missing. Of a checkpoint the state dict
    is taken that fits, whatever keys and prefix it lies under; a UserWarning says which.

    Args:
        classifier: is filled in place.
        uri: path or URI of a state dict or checkpoint (safetensors or torch's format, by any name), the folder of a
            classifier that `save_classifier` wrote, or a member of torchvision's weights enums, such as
            ResNet50_Weights.IMAGENET1K_V2, which is downloaded unless torch's cache has it.

    Raises:
        StorageError: there is no such file.
        ArtifactError: it holds no state dict, or several that differ; its tensors do not fit the architecture and the
            number of classes, or are quantised; it would need code to be run; or it is known to have been trained with
            another normalisation, other classes, or another order of the same.
        ConfigError: torchvision has no such weights.
    """
    if PUBLISHED.match(uri):
        _fill_published(classifier, uri)
        return
    storage, name = _file(uri)
    if name == _OURS and storage.exists("model.json"):
        _require_same_meaning(classifier, storage)
    _fill_from(classifier, read_state(storage.read(name), uri), uri)


def check_weights(uri: str) -> None:
    """Refuse weights that `load_weights` could not read at all; no tensor is read.

    Raises:
        StorageError: there is no such file.
        ConfigError: torchvision has no such weights.
    """
    if PUBLISHED.match(uri):
        _published(uri)
    else:
        storage, name = _file(uri)
        storage.size(name)


def weights_digest(uri: str) -> str:
    """The name of the weights in an identity: the sha256 of the file, or the name of published weights.

    Raises:
        StorageError: there is no such file.
    """
    if PUBLISHED.match(uri):
        return uri
    storage, name = _file(uri)
    return sha256(storage.read(name))


def fill(classifier: Classifier, tensors: Mapping[str, Tensor], item: str) -> None:
    """Put a state dict into the backbone.

    Raises:
        ArtifactError: a tensor is missing, unknown, of another shape, or quantised; nothing is changed.
    """
    require_fit(tensors, classifier.backbone.state_dict(), _network(classifier), item)
    classifier.backbone.load_state_dict(tensors, strict=False)


def _fill_from(classifier: Classifier, loaded: object, item: str) -> None:
    """Put the state dict that fits into the backbone, and say in a warning where it was taken from."""
    found = find_state(loaded, classifier.backbone.state_dict(), _network(classifier), item)
    fill(classifier, found.tensors, item)
    if found.where or found.beside:
        left = f"; left out: {', '.join(found.beside[:3])}{', ...' * (len(found.beside) > 3)}" if found.beside else ""
        warnings.warn(f"{item}: the weights are those under {found.where!r}{left}", UserWarning, stacklevel=3)


def _network(classifier: Classifier) -> str:
    return f"{classifier.architecture} with {len(classifier.class_names)} classes"


def _file(uri: str) -> tuple[Storage, str]:
    """The file that holds the tensors."""
    folder = Storage.open(uri)
    return (folder, _OURS) if folder.names() else Storage.of_file(uri)


def _require_same_meaning(classifier: Classifier, storage: Storage) -> None:
    meta = storage.read_json("model.json")["meta"]
    theirs, ours = list(meta["class_names"]), list(classifier.class_names)
    if theirs != ours and sorted(theirs) == sorted(ours):
        number = next(number for number, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
        raise ArtifactError(
            "the weights know the same classes in another order",
            item=storage.root, expected=f"class {number} to be {ours[number]}", got=theirs[number],
        )  # fmt: skip
    _require_same_normalisation(classifier, meta["preprocessing"]["mean"], meta["preprocessing"]["std"], storage.root)


def _require_same_normalisation(classifier: Classifier, mean: Sequence[float], std: Sequence[float], item: str) -> None:
    ours = [classifier.mean.flatten().tolist(), classifier.std.flatten().tolist()]
    if not torch.allclose(torch.tensor([mean, std]), torch.tensor(ours), atol=1e-4):
        shown = [", ".join(f"{value:.4g}" for value in values) for values in (*ours, mean, std)]
        raise ArtifactError(
            "the weights were trained with another normalisation",
            item=item, expected=f"mean {shown[0]}, std {shown[1]}", got=f"mean {shown[2]}, std {shown[3]}",
        )  # fmt: skip


def _published(name: str) -> object:
    from torchvision import models

    enums = {models.get_model_weights(model) for model in models.list_models(module=models)}
    return named({str(member): member for enum in enums for member in enum}, name, kind="weights of torchvision")


def _fill_published(classifier: Classifier, name: str) -> None:
    weights: Any = _published(name)
    if weights.meta["categories"] is not None:  # those of a backbone alone have none
        require_same_classes(classifier.class_names, weights.meta["categories"], name)
    preset = weights.transforms()
    _require_same_normalisation(classifier, preset.mean, preset.std, name)
    try:
        tensors = weights.get_state_dict(check_hash=True, progress=False)
    except (pickle.UnpicklingError, EOFError) as error:
        raise ArtifactError(f"its file in torch's cache is damaged ({error}); remove it", item=name) from error
    except OSError as error:
        raise ArtifactError(
            f"cannot be downloaded ({error}); where there is no network, give the file that torchvision publishes",
            item=name,
        ) from error
    fill(classifier, tensors, name)
