"""Balls and steps in L2 and L_inf, with one radius per image."""

import torch
from torch import Tensor

from stl_ray.attacks.budget import Norm
from stl_ray.metrics import l2_norm, linf


def per_image(values: Tensor) -> Tensor:
    """(B,) values as (B, 1, 1, 1), to broadcast over images."""
    return values[:, None, None, None]


def rescaled(vectors: Tensor, norm: Tensor) -> Tensor:
    """Vectors scaled to the given L2 norms, (B,); zero stays zero."""
    # Divide by the largest entry first: squares of a faint gradient underflow in float32.
    peak = vectors.flatten(1).abs().amax(dim=1)
    unit = vectors / per_image(torch.where(peak > 0, peak, 1))
    return unit * per_image(torch.where(peak > 0, norm / l2_norm(unit), 0))


def steepest(gradient: Tensor, length: Tensor, norm: Norm) -> Tensor:
    """The steepest-ascent step of a linear loss with the given lengths, (B,)."""
    return rescaled(gradient, length) if norm == "l2" else gradient.sign() * per_image(length)


def projected(perturbation: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """Projection onto every image's ball."""
    if norm == "linf":
        return perturbation.clamp(-per_image(radius), per_image(radius))
    outside = per_image(l2_norm(perturbation) > radius)
    return torch.where(outside, rescaled(perturbation, radius), perturbation)


def length(perturbation: Tensor, norm: Norm) -> Tensor:
    """Norm of every perturbation, (B,)."""
    return l2_norm(perturbation) if norm == "l2" else linf(perturbation, torch.zeros_like(perturbation))
