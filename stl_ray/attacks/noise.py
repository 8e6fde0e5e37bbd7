"""Random noise of the budget's norm: the control that every attack must beat."""

import torch
from torch import Tensor

from stl_ray.attacks.formulations import SingleRun
from stl_ray.attacks.geometry import per_image, rescaled
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.randomness import normal


class RandomNoise(SingleRun):
    """A Gaussian direction in L2, random signs in L_inf; the victim is never queried."""

    needs_gradient = False

    def perturb(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `SingleRun.perturb`."""
        noise = normal(problem.seeds, 0, tuple(problem.images.shape[1:]))
        linf = problem.norm == "linf"
        change = noise.sign() * per_image(problem.radius) if linf else rescaled(noise, problem.radius)
        return change, torch.zeros_like(problem.labels)
