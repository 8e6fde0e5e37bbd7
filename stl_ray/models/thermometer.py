"""Thermometer encoding in front of a network (Buckman et al. 2018, OpenReview S18Su--CW, section 3).

A value x in [0, 1] becomes `LEVELS` bits, the first i + 1 of them one, with i = int(.99999 x `LEVELS`) as in the authors'
code (cleverhans' discretization_utils). The network is trained on the bits, so the encoding is a part of it and images stay
images for whatever trains, attacks or evaluates it.

The bits are piecewise constant: their derivative is zero. In its place stands that of the ramps of Athalye et al. 2018
(section 5.1.1; obfuscated-gradients, thermometer.ipynb), bit k of which rises from 0 at 16 (k - 1) to 1 at 16 k of 255. The
gradient of such a network is therefore BPDA's, never exact.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from stl_ray.models.cifar_resnet import CifarResNet

LEVELS = 16


class Thermometer(nn.Module):
    """Images (B, C, H, W) in [0, 1], clipped there -> bits (B, C * `LEVELS`, H, W) of their type, a channel's together."""

    def forward(self, images: Tensor) -> Tensor:
        """The bits of every value, the lowest first."""
        bits: Tensor = _Encoding.apply(images)
        return bits.flatten(1, 2)


class _Encoding(Function):
    """(B, C, H, W) -> (B, C, LEVELS, H, W), with the derivative of the ramps."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.save_for_backward(images)
        index = (0.99999 * images.clamp(0, 1) * LEVELS).int()
        return (_levels(images) <= index.unsqueeze(2)).to(images.dtype)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        (images,) = ctx.saved_tensors
        slope = 255 / 16
        ramps = slope * images.unsqueeze(2) - (_levels(images) - 1)
        rising = (ramps >= 0) & (ramps <= 1)
        product: Tensor = slope * (cotangents[0] * rising).sum(2)
        return product


def _levels(images: Tensor) -> Tensor:
    return torch.arange(LEVELS, device=images.device).view(LEVELS, 1, 1)


def thermometer_resnet20(classes: int) -> nn.Sequential:
    """`cifar_resnet20` on encoded images, with `classes` logits; its images are not normalised."""
    return nn.Sequential(Thermometer(), CifarResNet(3, classes, channels=3 * LEVELS))
