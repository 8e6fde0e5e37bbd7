"""The update of weights: SGD with Nesterov momentum, the learning rate step by step, the moving average of the weights."""

from collections.abc import Sequence
from math import cos, pi

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stl_ray.config.training import TrainConfig


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The learning rate of a step of the configured schedule.

    Args:
        step: 0 <= step < steps.
        steps: steps of the whole training.
        config: peak, warm-up and schedule.
    """
    rising = int(steps * config.warmup)
    if step < rising:
        return config.learning_rate * (step + 1) / rising
    if config.schedule == "step":
        return stepwise(step / steps, peak=config.learning_rate, milestones=config.milestones)
    return cosine((step - rising) / (steps - rising), peak=config.learning_rate)


def cosine(done: float, *, peak: float) -> float:
    """From the peak to zero (Loshchilov and Hutter 2017, one period); `done` in [0, 1)."""
    return peak * 0.5 * (1 + cos(pi * done))


def stepwise(done: float, *, peak: float, milestones: Sequence[float]) -> float:
    """A tenth at every milestone (He et al. 2016); `done` and the milestones are shares of all steps."""
    return float(peak * 0.1 ** sum(done >= milestone for milestone in milestones))


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


def average_of(module: nn.Module, decay: float) -> AveragedModel | None:
    """The exponential moving average of a module's weights and running statistics; None where decay is 0."""
    if not decay:
        return None
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(module, multi_avg_fn=update, use_buffers=True)
