"""BIM: repeated small steps along the loss gradient within a ball. Source: Kurakin et al. 2017; L2 as by Foolbox."""

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.formulations import SingleRun
from stl_ray.attacks.geometry import projected, steepest
from stl_ray.attacks.losses import loss_gradient
from stl_ray.attacks.problem import Problem


class BasicIterative(SingleRun):
    """Steepest steps from the clean image, projected onto its ball and then onto the box."""

    steps: int = Field(10, ge=1, description="gradient steps")
    relative_step: float = Field(0.2, gt=0, le=1, description="step length as a share of the radius")

    def perturb(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `SingleRun.perturb`."""
        images, norm = problem.images, problem.norm
        current = images
        for _ in range(self.steps):
            _, gradient = loss_gradient(problem.victim, current, problem.labels)
            stepped = current - images + steepest(gradient, self.relative_step * problem.radius, norm)
            current = (images + projected(stepped, problem.radius, norm)).clamp(0, 1)
        return current - images, torch.full_like(problem.labels, self.steps)
