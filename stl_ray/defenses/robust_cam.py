"""The robust class activation map (R-CAM): where a classifier sees the classes that it holds most likely.

Sources: Zhou et al. 2016 (class activation maps), for networks that average their last features over the image and have one
linear layer behind; Prakash et al. 2018 (arXiv:1801.08926, section 4.1): the map of the class of rank i (from 1) has the
weight 2^-i, so that a map survives an attack which swaps the first classes. The authors made their maps with a network of
their own (VGG-16 with CAM) and read them scaled to [0, 1] by minimum and maximum, as here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stl_ray.errors import ConfigError, TensorError
from stl_ray.models import Classifier
from stl_ray.models.prediction import tile_size
from stl_ray.tiling import in_tiles

CLASSES = 5
"""How many of the likeliest classes have a part in the map; the paper's for ImageNet."""

SAME_MEAN = 1e-2
"""Relative difference from the mean of features that is rounding; that of bfloat16."""


def robust_cam(classifier: Classifier, images: Tensor) -> Tensor:
    """The maps of images, from the layers that the classifier calls; nothing of it is changed.

    Args:
        classifier: in eval mode, with an average of features (B, C, h, w) over positions in front of one linear layer.
        images: (B, 3, H, W) in [0, 1].

    Returns:
        (B, H, W) float32 in [0, 1]: 0 where the classes are least, 1 where they are most; all 0 of a map without relief.

    Raises:
        ConfigError: the network has no such layers, or the images are so small that its features have one position only.
        TensorError: its features are not finite.
    """
    size = tile_size(images.shape[-2], images.shape[-1], images.device)
    return in_tiles(lambda tile: (_maps(classifier, tile),), images.detach(), size=size)[0]


def _maps(classifier: Classifier, images: Tensor) -> Tensor:
    with _Watch(len(classifier.class_names)) as watch:
        logits = classifier.logits(images)
    features, weight = _layers(watch, classifier.architecture, images)
    likeliest = logits.topk(min(CLASSES, logits.shape[1]), dim=1).indices
    shares = 0.5 ** torch.arange(1, likeliest.shape[1] + 1, device=weight.device)
    weights = (weight[likeliest] * shares[:, None]).sum(1)  # (B, C): a sum of maps is the map of the sum
    maps = (features * weights[:, :, None, None]).sum(1, keepdim=True)
    maps = F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    if not bool(maps.isfinite().all()):
        raise TensorError("the classifier's features are not finite", item=classifier.architecture)
    low = maps.amin((1, 2), keepdim=True)
    span = maps.amax((1, 2), keepdim=True) - low
    return (maps - low) / span.masked_fill(span == 0, 1)


def _layers(watch: "_Watch", name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """The features (B, C, h, w) and weights (n, C), float32, if the linear layer's input is the features' mean."""
    for features, averaged, weight in watch.heads:
        if features.shape[:2] == averaged.shape:
            means, averaged = features.float().mean((2, 3)), averaged.float()
            if bool(((means - averaged).abs() <= SAME_MEAN * averaged.abs().max()).all()):
                return features.float(), weight.float()
    raise ConfigError(
        "a class activation map cannot be made of its layers", item=name,
        expected="features of several positions, their average and one linear layer behind, as in ResNet and MobileNetV2; "
        "or map: none",
        got=f"none for images of {images.shape[-2]} x {images.shape[-1]}",
    )  # fmt: skip


class _Watch(TorchFunctionMode):
    """Notes, while a network runs, the linear layers that can give its logits, each with the features before it.

    Args:
        classes: number of logits.

    Attributes:
        heads: (features, input of the linear layer, its weight) in the order of the calls.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.heads: list[tuple[Tensor, Tensor, Tensor]] = []
        self._features: Tensor | None = None  # the latest (B, C, h, w) of several positions: an average has one

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.linear:
            given = dict(zip(("input", "weight"), args, strict=False)) | dict(kwargs or {})
            inputs, weight = given["input"], given["weight"]
            if inputs.dim() == 2 and len(weight) == self.classes and self._features is not None:
                self.heads.append((self._features, inputs, weight.detach()))
        elif isinstance(result, Tensor) and result.dim() == 4 and result.shape[-2:].numel() > 1:
            self._features = result
        return result
