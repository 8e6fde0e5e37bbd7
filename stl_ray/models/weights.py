"""Weights to start from: a state dict from a file, from a classifier of ours, or as torchvision or timm publish it."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stl_ray.config.classifiers import PRETRAINED, PUBLISHED, is_published
from stl_ray.errors import ArtifactError, ConfigError
from stl_ray.models import imagenet, timm_models, torchvision_models
from stl_ray.models.classifier import Classifier
from stl_ray.models.published_classes import require_imagenet
from stl_ray.models.state_dicts import find_state, require_fit
from stl_ray.models.state_file import read_state
from stl_ray.store import Storage
from stl_ray.store.shards import sha256

_OURS = "model.safetensors"
_TIMM = "timm:"


def load_weights(classifier: Classifier, weights: str) -> None:
    """Put given weights into the classifier's backbone.

    The step counters of batch norm, which many published files leave out, may be missing. Of a checkpoint the state dict
    is taken that fits, whatever keys and prefix it lies under; a UserWarning says which.

    Args:
        classifier: is filled in place.
        weights: path or URI of a state dict or checkpoint (safetensors or torch's format, by any name), the folder of a
            classifier that `save_classifier` wrote, or published weights, which are downloaded unless the library's cache has
            them: a member of torchvision's enums, such as ResNet50_Weights.IMAGENET1K_V2, or for `timm:NAME` `pretrained`.

    Raises:
        StorageError: there is no such file.
        ArtifactError: it holds no state dict, or several that differ; its tensors do not fit the architecture and the
            number of classes, or are quantised; it would need code to be run; it cannot be downloaded; or it is known to have
            been trained with another normalisation, other classes, or another order of the same.
        ConfigError: there are no such published weights.
    """
    if PUBLISHED.match(weights):
        _fill_torchvision(classifier, weights)
        return
    if weights == PRETRAINED:
        _fill_timm(classifier)
        return
    storage, name = _file(weights)
    if name == _OURS and storage.exists("model.json"):
        _require_same_meaning(classifier, storage)
    _fill_from(classifier, read_state(storage.read(name), weights), weights)


def check_weights(architecture: str, weights: str) -> None:
    """Refuse weights that `load_weights` could not read at all; no tensor is read.

    Raises:
        StorageError: there is no such file.
        ConfigError: there are no such published weights.
    """
    if PUBLISHED.match(weights):
        torchvision_models.published(weights)
    elif weights == PRETRAINED:
        timm_models.published(_timm_name(architecture))
    else:
        storage, name = _file(weights)
        storage.size(name)


def weights_digest(architecture: str, weights: str) -> str:
    """The name of the weights in an identity: the sha256 of the file, or the full name of published weights.

    Raises:
        StorageError: there is no such file.
        ConfigError: there are no such published weights.
    """
    if PUBLISHED.match(weights):
        return weights
    if weights == PRETRAINED:
        return timm_models.published(_timm_name(architecture))[0]
    storage, name = _file(weights)
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


def classes_in(weights: str) -> tuple[str, ...] | None:
    """The classes that weights are known to have, in the order of their logits: those of a classifier that was trained here.

    Raises:
        StorageError: the storage refuses.
    """
    if is_published(weights):
        return None
    folder = Storage.open(weights)
    if not folder.exists("model.json"):
        return None
    return tuple(folder.read_json("model.json")["meta"]["class_names"])


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


def _fill_torchvision(classifier: Classifier, name: str) -> None:
    weights = torchvision_models.published(name)
    if weights.meta["categories"] is not None:  # those of a backbone alone have none
        require_imagenet(classifier.class_names, name)
    preset = weights.transforms()
    _require_same_normalisation(classifier, preset.mean, preset.std, name)
    fill(classifier, torchvision_models.published_state(name), name)


def published_weights(architecture: str) -> str | None:
    """The weights, as `weights` of a classifier names them, that a library recommends for a network of its own.

    Args:
        architecture: any; None comes of one that is not `torchvision:NAME` or `timm:NAME`.

    Raises:
        ConfigError: torchvision has no network of this name.
    """
    if architecture.startswith("torchvision:"):
        return torchvision_models.recommended(architecture.removeprefix("torchvision:"))
    return PRETRAINED if architecture.startswith(_TIMM) else None


def _fill_timm(classifier: Classifier) -> None:
    architecture = _timm_name(classifier.architecture)
    name, classes = timm_models.published(architecture)
    if classes == len(imagenet.WNIDS):
        require_imagenet(classifier.class_names, name)
    elif classes != len(classifier.class_names):
        raise ArtifactError(
            "the weights know other classes", item=name, expected=len(classifier.class_names), got=classes
        )
    fill(classifier, timm_models.published_state(architecture), name)


def _timm_name(architecture: str) -> str:
    if not architecture.startswith(_TIMM):
        expected = (
            "a file, a folder, or a member of torchvision's weights enums, such as ResNet50_Weights.IMAGENET1K_V2"
        )
        raise ConfigError("pretrained are the weights of timm:NAME alone", item=architecture, expected=expected)
    return architecture.removeprefix(_TIMM)
