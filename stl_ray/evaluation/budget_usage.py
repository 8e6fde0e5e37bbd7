"""Budget usage: size of the stored perturbation over the budget, in float64."""

import torch
from torch import Tensor

from stl_ray.attacks import Budget
from stl_ray.metrics import l2_norm, linf


def budget_usage(adversarial: Tensor, clean: Tensor, budget: Budget) -> Tensor:
    """Size of every perturbation over its budget, (B,) float64 on the CPU.

    0 for no perturbation, infinite for a perturbation where none is allowed.
    """
    usage = []
    for after, before in zip(adversarial.cpu().double() * 255, clean.cpu().double() * 255, strict=True):
        change = ((after - before) * budget.weights(before))[None]
        size = float(l2_norm(change) if budget.norm == "l2" else linf(change, torch.zeros_like(change)))
        radius = budget.radius_in_levels(before)
        usage.append(size / radius if radius > 0 else (float("inf") if size > 0 else 0.0))
    return torch.tensor(usage, dtype=torch.float64)
