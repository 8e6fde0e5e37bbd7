"""Between an adversarial image and the clean one: the boundary on the segment, by bisection."""

import torch
from torch import Tensor

from stl_ray.attacks.base import Problem
from stl_ray.attacks.geometry import per_image
from stl_ray.attacks.losses import margin

_STEPS = 10


def bisect_boundary(problem: Problem, adversarial: Tensor, confidence: float = 0.0) -> tuple[Tensor, Tensor]:
    """Adversarial images brought as near to the clean ones as they stay wrong, to a thousandth of the way.

    Args:
        problem: the clean images.
        adversarial: (B, 3, H, W); the clean image where there is none, which stays.
        confidence: margin of logits by which the answer must be wrong.

    Returns:
        (B, 3, H, W) images, and the passes spent, (B,) int64.
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
        wrong = value > confidence
        near, far = torch.where(wrong, near, middle), torch.where(wrong, middle, far)
        best = torch.where(per_image(wrong), point, best)
    return best, torch.full_like(problem.labels, _STEPS)
