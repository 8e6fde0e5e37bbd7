"""Boundary search: bisection of the segment between an adversarial image and its clean image."""

import torch
from torch import Tensor

from stl_ray.attacks.geometry import per_image
from stl_ray.attacks.losses import margin
from stl_ray.attacks.problem import Problem

_STEPS = 10


def bisect_boundary(problem: Problem, adversarial: Tensor, confidence: float = 0.0) -> tuple[Tensor, Tensor]:
    """Adversarial images moved toward the clean images as far as they stay misclassified, to 1/1000 of the segment.

    Args:
        problem: the clean images.
        adversarial: (B, 3, H, W); rows that equal the clean image stay.
        confidence: margin of logits that misclassification must exceed.

    Returns:
        (B, 3, H, W) images, and (B,) int64 passes through the victim.
    """
    change = adversarial - problem.images
    near, far = (problem.images.new_full((len(change),), share) for share in (0.0, 1.0))
    best = adversarial
    for _ in range(_STEPS):
        middle = (near + far) / 2
        point = (problem.images + per_image(middle) * change).clamp(0, 1)
        (value,) = problem.with_images(point).looped(
            lambda tile: (margin(tile.victim.logits(tile.images), tile.labels),)
        )
        misclassified = value > confidence
        near, far = torch.where(misclassified, near, middle), torch.where(misclassified, middle, far)
        best = torch.where(per_image(misclassified), point, best)
    return best, torch.full_like(problem.labels, _STEPS)
