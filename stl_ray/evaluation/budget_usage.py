"""How much of its budget an adversarial image used, measured anew in float64 on the image as it is stored."""

import torch
from torch import Tensor

from stl_ray.attacks import Budget
from stl_ray.metrics import l2_norm, linf


def budget_usage(adversarial: Tensor, clean: Tensor, own: Budget) -> Tensor:
    """The size of every perturbation over its budget, (B,) float64 on the CPU; 0 for none, infinite where none is allowed."""
    shares = []
    for after, before in zip(adversarial.cpu().double() * 255, clean.cpu().double() * 255, strict=True):
        change = ((after - before) * own.weights(before))[None]
        size = float(l2_norm(change) if own.norm == "l2" else linf(change, torch.zeros_like(change)))
        radius = own.radius_in_levels(before)
        shares.append(size / radius if radius > 0 else (float("inf") if size > 0 else 0.0))
    return torch.tensor(shares, dtype=torch.float64)
