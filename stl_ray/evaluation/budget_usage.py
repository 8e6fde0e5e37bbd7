"""Budget usage: size of the stored perturbation over the budget, in float64."""

import torch
from torch import Tensor

from stl_ray.attacks import Budget
from stl_ray.metrics import l2_norm, linf

_ROUNDING = 2e-5
"""Levels: float32 pixels k / 255 are off by at most 7.6e-6, those of torchvision's scaling by twice that."""


def budget_usage(adversarial: Tensor, clean: Tensor, budget: Budget) -> Tensor:
    """Size of every perturbation over its budget, (B,) float64 on the CPU.

    0 for no perturbation, infinite for a perturbation where none is allowed.
    """
    usage = []
    for after, before in zip(_levels(adversarial), _levels(clean), strict=True):
        change = ((after - before) * budget.weights(before))[None]
        size = float(l2_norm(change) if budget.norm == "l2" else linf(change, torch.zeros_like(change)))
        radius = budget.radius_in_levels(before)
        usage.append(size / radius if radius > 0 else (float("inf") if size > 0 else 0.0))
    return torch.tensor(usage, dtype=torch.float64)


def _levels(images: Tensor) -> Tensor:
    """In levels of 255; whole ones, which are rounded in float32, are whole again."""
    levels = images.cpu().double() * 255
    return torch.where((levels - levels.round()).abs() < _ROUNDING, levels.round(), levels)
