"""Torchvision's ResNets and VGGs for images of 32 and 64 pixels, which their originals halve away.

`resnet18_small`, ...: the stem is one 3x3 convolution of stride 1, without the max-pooling, as in the CIFAR networks of He
et al. 2016; so the last stage sees 4x4 at 32 pixels and 8x8 at 64. All other layers, and their names in the state dict,
are torchvision's.

`vgg16_bn_small`, ...: torchvision's convolutions, then the average over the image and one linear layer instead of 4096
features twice, which on images of 32 pixels would be 90 % of the weights. The convolutions' names are torchvision's.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "resnext50_32x4d")
VGGS = ("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn")

_VGG_CHANNELS = 512


def small_image_builders() -> dict[str, Callable[[int], nn.Module]]:
    """Every variant for small images by name: builders for a number of classes."""
    return {
        **{f"{name}_small": partial(_resnet, name) for name in RESNETS},
        **{f"{name}_small": partial(_vgg, name) for name in VGGS},
    }


def _resnet(name: str, classes: int) -> nn.Module:
    from torchvision import models

    network = models.get_model(name, weights=None, num_classes=classes)
    network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network  # type: ignore[no-any-return]


def _vgg(name: str, classes: int) -> nn.Module:
    from torchvision import models

    # The classifier's 120 million weights are thrown away, so they are not drawn a second time.
    network = models.get_model(name, weights=None, num_classes=classes, init_weights=False)
    for layer in network.features.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.classifier = nn.Linear(_VGG_CHANNELS, classes)
    return network  # type: ignore[no-any-return]
