"""FGSM: one step along the sign of the loss gradient. Source: Goodfellow et al. 2015, section 4."""

import torch
from torch import Tensor

from stl_ray.attacks.formulations import SingleRun
from stl_ray.attacks.geometry import per_image, rescaled
from stl_ray.attacks.losses import loss_gradient
from stl_ray.attacks.problem import Problem


class FastGradientSign(SingleRun):
    """x' = x + t sign(gradient of the cross-entropy); the budget sets t per image, after clipping."""

    def perturb(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `SingleRun.perturb`."""
        _, gradient = loss_gradient(problem.victim, problem.images, problem.labels)
        sign = gradient.sign()
        change = sign * per_image(problem.radius) if problem.norm == "linf" else rescaled(sign, problem.radius)
        return change, torch.ones_like(problem.labels)
