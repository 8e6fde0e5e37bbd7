"""mixup and CutMix, torchvision's, on a rank's part of a batch: images of two classes, whose targets are their shares.

An image's partner is its neighbour in the rank's part of the batch, so with another number of workers other pairs are
mixed.
"""

import torch
from torch import Tensor

from stl_ray.config.training import TrainConfig


def mixed(images: Tensor, labels: Tensor, classes: int, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Mix every image with its neighbour; draws from torch's global generators.

    Args:
        images: (B, 3, H, W) float.
        labels: (B,) int64.
        classes: their number.
        config: alpha of `mixup` and `cutmix`; one of them is drawn where both are given.

    Returns:
        (B, 3, H, W) images and (B, classes) shares of their classes.
    """
    from torchvision.transforms import v2

    kinds = [
        kind(alpha=alpha, num_classes=classes)
        for kind, alpha in ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        if alpha
    ]
    chosen = kinds[int(torch.randint(len(kinds), ()))]
    images, shares = chosen(images, labels)
    return images, shares
