"""How weights move: SGD with Nesterov momentum, and the learning rate step by step."""

from math import cos, pi

import torch
from torch import nn

from stl_ray.config.sections import TrainConfig


def learning_rate(step: int, steps: int, *, peak: float, warmup: float) -> float:
    """A linear warm-up, then a cosine to zero (Loshchilov and Hutter 2017, one period).

    Args:
        step: 0 <= step < steps.
        steps: steps of the whole training.
        peak: the largest learning rate, reached at the end of the warm-up.
        warmup: share of the steps in which it rises, in [0, 1).
    """
    rising = int(steps * warmup)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + cos(pi * (step - rising) / (steps - rising)))


def sgd(module: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """The optimizer of `module`; biases and norms (parameters of one axis) are not decayed."""
    parameters = list(module.parameters())
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
    )
