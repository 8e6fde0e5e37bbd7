"""Saliency maps: where an image decides what a classifier says of it.

    s = max over channels of |d f_c / d x|,  c the predicted class

Source: Simonyan, Vedaldi and Zisserman 2014, section 3, with the predicted class in place of the label, which an image may
lack.
"""

import torch
from torch import Tensor

from stl_ray.models import Victim
from stl_ray.tiling import in_tiles

TILE = 16
"""Images whose maps are computed at once: that of one depends on no other."""


def saliency_maps(classifier: Victim, images: Tensor) -> Tensor:
    """(B, H, W) maps, 0 or more, of images (B, 3, H, W) in [0, 1]; 0 where the gradient is not finite."""
    return in_tiles(lambda tile: (_maps(classifier, tile),), images, size=TILE)[0]


def _maps(classifier: Victim, images: Tensor) -> Tensor:
    _, gradient = classifier.logits_and_vjp(images, _predicted)
    return gradient.abs().amax(1).nan_to_num(0, 0, 0)


def _predicted(logits: Tensor) -> Tensor:
    return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1)
