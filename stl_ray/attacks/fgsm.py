"""FGSM: one step along the sign of the loss gradient. Source: Goodfellow et al. 2015, section 4."""

import torch
from torch import Tensor

from stl_ray.attacks.base import Attack, cross_entropy_gradient
from stl_ray.models import Victim


class FastGradientSign(Attack):
    """x' = x + t sign(gradient of the cross-entropy), t set per image by the budget after clipping."""

    def perturb(self, victim: Victim, images: Tensor, labels: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """See `Attack.perturb`."""
        gradient = cross_entropy_gradient(victim, images, labels)
        return gradient.sign(), torch.ones_like(labels)
