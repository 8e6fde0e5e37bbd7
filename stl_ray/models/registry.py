"""Classifiers by the reference of their architecture.

`NAME` is a network of ours: at 32 and 64 pixels take `resnet18_small`, `resnet50_small`, `vgg16_bn_small` and their like,
`cifar_resnet20` or `cifar_resnet56` (as published for CIFAR-10), or `small_cnn` where there is no GPU;
`thermometer_resnet20` is a defense, which encodes what it sees. `torchvision:NAME` and `timm:NAME` are these libraries' (from
96 pixels on); any other `module:function` is a user's own.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from stl_ray.config.classifiers import is_function
from stl_ray.errors import ConfigError
from stl_ray.models import timm_models, torchvision_models
from stl_ray.models.cifar_resnet import CifarResNet
from stl_ray.models.classifier import IMAGENET_MEAN, IMAGENET_STD, Classifier
from stl_ray.models.functions import called, function_of
from stl_ray.models.initialisation import seeded
from stl_ray.models.small_cnn import small_cnn
from stl_ray.models.small_images import small_image_builders
from stl_ray.models.thermometer import thermometer_resnet20
from stl_ray.options import closest
from stl_ray.seeding import seed_of

Builder = Callable[[int], nn.Module]

OURS: dict[str, Builder] = {
    "small_cnn": small_cnn,
    "cifar_resnet20": partial(CifarResNet, 3),
    "cifar_resnet56": partial(CifarResNet, 9),
    "thermometer_resnet20": thermometer_resnet20,
    **small_image_builders(),
}
"""Networks for small images by name: builders for a number of classes."""


def check_classifier(architecture: str) -> None:
    """Refuse a reference that `build_classifier` does not know; a user's module is imported, no function is called.

    Raises:
        ConfigError: with the nearest name that exists; or timm, or the user's module, cannot be imported.
    """
    _builder(architecture)


def build_classifier(
    architecture: str,
    class_names: Sequence[str],
    *,
    seed: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Classifier:
    """A classifier in training mode: untrained, or `module:function`'s with the weights that it comes with.

    Args:
        architecture: `NAME`, `torchvision:NAME`, `timm:NAME` or `module:function`.
        class_names: the classes, in the order of the logits.
        seed: the run seed; random initial weights depend on it and the architecture alone.
        mean: per-channel mean of the normalisation, for images in [0, 1]. Absent: ImageNet's for ours and torchvision's, of
            timm's that of the weights it publishes for the name, and for a user's function 0.
        std: per-channel standard deviation of the normalisation; absent: likewise, and 1.

    Raises:
        ConfigError: the architecture is unknown or cannot be built, or there is no class.
    """
    build = _builder(architecture)
    if not class_names:
        raise ConfigError("a classifier needs classes", item=architecture, expected="at least one", got="none")
    backbone = seeded(lambda: build(len(class_names)), seed_of(seed, architecture, "initial weights"))
    own_mean, own_std = _normalisation(architecture, backbone)
    return Classifier(
        backbone,
        architecture=architecture,
        class_names=class_names,
        mean=own_mean if mean is None else mean,
        std=own_std if std is None else std,
        channels_last=not is_function(architecture),
    ).train()


_LIBRARIES: dict[str, Callable[[str], Builder]] = {
    "torchvision": torchvision_models.builder,
    "timm": timm_models.builder,
}


def _builder(architecture: str) -> Builder:
    if architecture in OURS:
        return OURS[architecture]
    library, colon, name = architecture.partition(":")
    if library in _LIBRARIES and colon:
        return _LIBRARIES[library](name)
    if colon:
        function_of(architecture)
        return lambda classes: called(architecture)
    close = closest(architecture, [*OURS, *torchvision_models.names()])
    meant = "" if close is None else f"'{close if close in OURS else f'torchvision:{close}'}'? "
    expected = f"{meant}(one of {', '.join(sorted(OURS))}), torchvision:NAME, timm:NAME or module:function"
    raise ConfigError("unknown classifier", item=architecture, expected=expected)


def _normalisation(architecture: str, network: nn.Module) -> tuple[Sequence[float], Sequence[float]]:
    if is_function(architecture) or architecture == "thermometer_resnet20":  # which sees the values that it encodes
        return (0.0,) * 3, (1.0,) * 3
    if architecture.startswith("timm:"):
        return timm_models.normalisation(network)
    return IMAGENET_MEAN, IMAGENET_STD
