"""Exact gradients by autograd, of a defense whose steps torch can differentiate for the draws of given seeds."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stl_ray.defenses.base import Differentiable, Linearised, Pullback


def pathwise(through: Differentiable) -> Linearised:
    """The linearisation of what is on torch's graph, for `Defense.linearised`."""

    def linearise(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Pullback]:
        with torch.inference_mode(mode=False), torch.enable_grad():
            leaf = images.detach().clone().requires_grad_()
            output = through(leaf, seeds)
        return output.detach(), lambda v: torch.autograd.grad(output, leaf, v, retain_graph=True)[0]

    return linearise
