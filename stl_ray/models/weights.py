"""Weights to start from: a state dict from a file, from a classifier of ours, or from torchvision's published weights.

No pickle is run: `.pth` files are read with `weights_only`.
"""

import io
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from stl_ray.errors import ArtifactError
from stl_ray.models.classifier import Classifier
from stl_ray.options import named
from stl_ray.store import Storage
from stl_ray.store.shards import sha256

PUBLISHED = re.compile(r"^\w+_Weights\.\w+$")
"""A member of torchvision's weights enums, such as ResNet50_Weights.IMAGENET1K_V2."""

_OURS = "model.safetensors"


def load_weights(classifier: Classifier, uri: str) -> None:
    """Put given weights into the classifier's backbone.

    The step counters of batch norm, which many published files leave out, may be missing.

    Args:
        classifier: is filled in place.
        uri: path or URI of a state dict (.safetensors, .pth, .pt), the folder of a classifier that `save_classifier`
            wrote, or a member of torchvision's weights enums, such as ResNet50_Weights.IMAGENET1K_V2, which is
            downloaded unless torch's cache has it.

    Raises:
        StorageError: there is no such file.
        ArtifactError: it holds no state dict, its tensors do not fit the architecture and the number of classes, or it is
            known to have been trained with another normalisation or another order of the same classes.
        ConfigError: torchvision has no such weights.
    """
    if PUBLISHED.match(uri):
        _fill_published(classifier, uri)
        return
    storage, name = _file(uri)
    if name == _OURS and storage.exists("model.json"):
        _require_same_meaning(classifier, storage)
    fill(classifier, _state_dict(storage, name), uri)


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
        ArtifactError: a tensor is missing, unknown or of another shape; nothing is changed.
    """
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


def _file(uri: str) -> tuple[Storage, str]:
    """The file that holds the tensors."""
    if uri.endswith((".safetensors", ".pth", ".pt")):
        return Storage.of_file(uri)
    return Storage.open(uri), _OURS


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


def _state_dict(storage: Storage, name: str) -> Mapping[str, Tensor]:
    data, item = storage.read(name), storage.at(name)
    if name.endswith(".safetensors"):
        try:
            return dict(safetensors.torch.load(data))
        except SafetensorError as error:
            raise ArtifactError(f"not a safetensors file ({error})", item=item) from error
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"not a file of weights alone ({reason})", item=item) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        got = ", ".join(map(str, list(loaded)[:5])) if isinstance(loaded, Mapping) else type(loaded).__name__
        raise ArtifactError("not a state dict", item=item, expected="a tensor by name", got=got)
    return loaded


def _published(name: str) -> object:
    from torchvision import models

    enums = {models.get_model_weights(model) for model in models.list_models(module=models)}
    return named({str(member): member for enum in enums for member in enum}, name, kind="weights of torchvision")


def _fill_published(classifier: Classifier, name: str) -> None:
    weights: Any = _published(name)
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
