"""BIM: repeated small steps along the loss gradient within a ball. Source: Kurakin et al. 2017, in the L2 norm."""

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.base import Attack, cross_entropy_gradient
from stl_ray.metrics import l2_norm
from stl_ray.models import Victim


class BasicIterative(Attack):
    """Normalised gradient steps from the clean image, projected onto its L2 ball and then onto the box."""

    steps: int = Field(10, ge=1, description="gradient steps")
    relative_step: float = Field(0.2, gt=0, le=1, description="length of a step over the radius of the image's ball")

    def perturb(self, victim: Victim, images: Tensor, labels: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """See `Attack.perturb`."""
        current = images
        for _ in range(self.steps):
            gradient = cross_entropy_gradient(victim, current, labels)
            stepped = current - images + _with_norm(gradient, self.relative_step * radius)
            inside = torch.where(_column(l2_norm(stepped) > radius), _with_norm(stepped, radius), stepped)
            current = (images + inside).clamp(0, 1)
        return current - images, torch.full_like(labels, self.steps)


def _with_norm(vectors: Tensor, norm: Tensor) -> Tensor:
    """Every image scaled to its norm; zero stays zero."""
    # By the largest entry first: the squares of a faint gradient are zero in float32.
    peak = vectors.flatten(1).abs().amax(dim=1)
    unit = vectors / _column(torch.where(peak > 0, peak, 1))
    return unit * _column(torch.where(peak > 0, norm / l2_norm(unit), 0))


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]
