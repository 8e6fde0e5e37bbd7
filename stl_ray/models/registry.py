"""Classifiers by name: every classification model of torchvision, and networks for small images.

At 32 and 64 pixels take `resnet18_small`, `resnet50_small`, `vgg16_bn_small` and their like, `cifar_resnet20` or
`cifar_resnet56` (as published for CIFAR-10), or `small_cnn` where there is no GPU; from 96 pixels on torchvision's own.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

from torch import nn

from stl_ray.errors import ConfigError
from stl_ray.models.cifar_resnet import CifarResNet
from stl_ray.models.classifier import IMAGENET_MEAN, IMAGENET_STD, Classifier
from stl_ray.models.initialisation import seeded
from stl_ray.models.small_cnn import small_cnn
from stl_ray.models.small_images import small_image_builders
from stl_ray.options import named
from stl_ray.seeding import seed_of

Builder = Callable[[int], nn.Module]


OURS: dict[str, Builder] = {
    "small_cnn": small_cnn,
    "cifar_resnet20": partial(CifarResNet, 3),
    "cifar_resnet56": partial(CifarResNet, 9),
    **small_image_builders(),
}
"""Networks for small images by name: builders for a number of classes."""


@cache
def builders() -> dict[str, Builder]:
    """Every architecture by name: builders for a number of classes."""
    # Imported only when needed: it takes as long as torch itself, and networks for small images do without.
    from torchvision import models

    def torchvision_builder(name: str, **options: bool) -> Builder:
        return lambda classes: models.get_model(name, weights=None, num_classes=classes, **options)

    return {
        **{name: torchvision_builder(name) for name in models.list_models(module=models)},
        # Without the auxiliary heads, which return a tuple in training mode.
        "googlenet": torchvision_builder("googlenet", aux_logits=False, init_weights=True),
        "inception_v3": torchvision_builder("inception_v3", aux_logits=False, init_weights=True),
        **OURS,
    }


def check_classifier(name: str) -> None:
    """Refuse a name that `build_classifier` does not know.

    Raises:
        ConfigError: with the nearest name that exists.
    """
    _builder(name)


def _builder(name: str) -> Builder:
    return OURS[name] if name in OURS else named(builders(), name, kind="classifier")


def build_classifier(
    name: str,
    class_names: Sequence[str],
    *,
    seed: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Classifier:
    """An untrained classifier in training mode.

    Args:
        name: a key of `builders()`.
        class_names: the classes, in the order of the logits.
        seed: the run seed; the initial weights depend on it and the name alone.
        mean: per-channel mean of the normalisation, for images in [0, 1].
        std: per-channel standard deviation of the normalisation.

    Raises:
        ConfigError: the name is unknown, or there is no class.
    """
    build = _builder(name)
    if not class_names:
        raise ConfigError("a classifier needs classes", item=name, expected="at least one", got="none")
    backbone = seeded(lambda: build(len(class_names)), seed_of(seed, name, "initial weights"))
    return Classifier(backbone, architecture=name, class_names=class_names, mean=mean, std=std)
