"""The clip to [0, 1] as attacks differentiate it."""

from typing import Any

import torch
from torch import Tensor

CLIP_SLACK = 1e-6
"""How far outside [0, 1] a pixel may lie and still pass the gradient: rounding of black and white."""


def clipped(images: Tensor) -> Tensor:
    """The images clipped to [0, 1]; a pixel on its boundary up to rounding, as black and white are, passes the gradient.

    `torch.clamp` has no derivative at its bounds, so that black and white regions would be masked.
    """
    output: Tensor = _Clip.apply(images)
    return output


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        ctx.save_for_backward((raw < -CLIP_SLACK) | (raw > 1 + CLIP_SLACK))
        return raw.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        (outside,) = ctx.saved_tensors
        return cotangents[0].masked_fill(outside, 0)
