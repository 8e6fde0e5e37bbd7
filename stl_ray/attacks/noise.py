"""Random noise of the budget's norm: the control that every attack must beat."""

import torch
from torch import Tensor

from stl_ray.attacks.base import Problem
from stl_ray.attacks.families import Direct
from stl_ray.attacks.geometry import column, rescaled
from stl_ray.attacks.randomness import normal


class RandomNoise(Direct):
    """A Gaussian direction in L2, random signs in L_inf; the victim is not asked."""

    def perturb(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `Direct.perturb`."""
        noise = normal(problem.seeds, 0, tuple(problem.images.shape[1:]))
        linf = problem.norm == "linf"
        change = noise.sign() * column(problem.radius) if linf else rescaled(noise, problem.radius)
        return change, torch.zeros_like(problem.labels)
