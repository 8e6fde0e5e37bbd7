"""Victims whose logits and gradients a test can say by hand."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Linear:
    """A victim whose logits are linear in the image, in the image's own type."""

    weights: Tensor  # (n, 3, H, W)

    def logits(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weights.flatten(1).to(images).T

    def logits_and_vjp(self, images, cotangent):
        logits = self.logits(images)
        return logits, (cotangent(logits) @ self.weights.flatten(1).to(images)).view_as(images)


def cotangent(logits: Tensor) -> Tensor:
    """Of the first logit minus the last."""
    v = torch.zeros_like(logits)
    v[:, 0], v[:, -1] = 1, -1
    return v
