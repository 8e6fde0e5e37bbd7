"""APGD: projected gradient ascent with momentum and an adaptive step size. Source: Croce, Hein 2020, section 3.

At checkpoints of decreasing distance the step size of an image is halved, and the search returns to the best iterate,
if fewer than three quarters of the steps raised the loss, or if neither step size nor best loss changed since the last
checkpoint.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.formulations import RestartResult, Restarts
from stl_ray.attacks.geometry import per_image, projected, rescaled, steepest
from stl_ray.attacks.losses import LOSSES, Loss, dlr_to, loss_gradient
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.randomness import normal, uniform

_MOMENTUM = 0.75  # weight of the new step (alpha)
_RISING = 0.75  # share of steps that must raise the loss (rho)


class AutoProjectedGradient(Restarts):
    """APGD on the cross-entropy or on the difference of logits ratio."""

    steps: int = Field(100, ge=1, description="gradient steps of a run")
    restarts: int = Field(1, ge=1, description="largest number of runs; a misclassified image is not restarted")
    loss: Literal["cross_entropy", "dlr"] = Field("cross_entropy", description="loss that is maximised")
    eot: int = Field(1, ge=1, description="draws of a randomised victim per gradient (expectation over transformation)")

    @property
    def total_restarts(self) -> int:
        """See `Restarts.total_restarts`."""
        return self.restarts

    def restart(self, problem: Problem, number: Tensor) -> RestartResult:
        """See `Restarts.restart`."""
        loss = LOSSES[self.loss]
        return RestartResult(
            *problem.looped(lambda tile, number: climb(tile, number, loss, self.steps, self.eot), number)
        )


class AutoProjectedGradientDlr(AutoProjectedGradient):
    """APGD-DLR: APGD with the DLR loss by default."""

    loss: Literal["cross_entropy", "dlr"] = Field("dlr", description="loss that is maximised")


class TargetedAutoProjectedGradient(Restarts):
    """APGD-T: APGD on the targeted DLR toward each of the likeliest other classes of the clean image in turn."""

    steps: int = Field(100, ge=1, description="gradient steps of a run")
    targets: int = Field(
        9,
        ge=1,
        description="likeliest other classes that are target classes; a misclassified image is not attacked again",
    )
    restarts: int = Field(1, ge=1, description="runs per target class")
    eot: int = Field(1, ge=1, description="draws of a randomised victim per gradient (expectation over transformation)")

    @property
    def total_restarts(self) -> int:
        """See `Restarts.total_restarts`."""
        return self.targets * self.restarts

    def restart(self, problem: Problem, number: Tensor) -> RestartResult:
        """See `Restarts.restart`."""
        return RestartResult(*problem.looped(self._toward, number))

    def _toward(self, problem: Problem, number: Tensor) -> RestartResult:
        logits = problem.victim.logits(problem.images)
        targets = nth_other_class(logits, problem.labels, number // self.restarts)
        result = climb(problem, number, dlr_to(targets), self.steps, self.eot)
        return result._replace(queries=result.queries + 1)


def nth_other_class(logits: Tensor, labels: Tensor, number: Tensor) -> Tensor:
    """The likeliest class except the label for number 0, the second likeliest for 1, and so on, cyclically; (B,) int64.

    With one class: the label.
    """
    classes = logits.shape[1]
    if classes == 1:
        return labels
    others = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
    return others.gather(1, number[:, None] % (classes - 1))[:, 0]


def climb(problem: Problem, number: Tensor, loss: Loss, steps: int, eot: int) -> RestartResult:
    """One run of APGD on a full tile; `number`, (B,), selects the random start of each image."""
    images, labels, radius, norm = problem.images, problem.labels, problem.radius, problem.norm
    current = (images + _start(problem, number)).clamp(0, 1)
    logits, gradient = loss_gradient(problem.victim, current, labels, loss, eot)
    value = loss(logits, labels)
    best = RestartResult.start(images).better_of(current, value, logits.argmax(dim=1) != labels)
    # The best iterate by loss alone controls the step size.
    top, top_value, top_gradient = current, value, gradient
    checked_value, was_halved = value, torch.ones_like(best.misclassified)
    step, previous, rises = 2 * radius, current, torch.zeros_like(labels)
    period, since = max(int(0.22 * steps), 1), 0
    for index in range(steps):
        ahead = _in_ball(images, current + steepest(gradient, step, norm), radius, norm)
        if index > 0:
            mixed = current + _MOMENTUM * (ahead - current) + (1 - _MOMENTUM) * (current - previous)
            ahead = _in_ball(images, mixed, radius, norm)
        previous, current = current, ahead
        logits, gradient = loss_gradient(problem.victim, current, labels, loss, eot)
        new = loss(logits, labels)
        best = best.better_of(current, new, logits.argmax(dim=1) != labels)
        rises, value = rises + (new > value), new
        better = value > top_value
        top = torch.where(per_image(better), current, top)
        top_gradient = torch.where(per_image(better), gradient, top_gradient)
        top_value = torch.where(better, value, top_value)
        since += 1
        if since == period:
            halved = (rises <= _RISING * period) | (~was_halved & (checked_value >= top_value))
            step = torch.where(halved, step / 2, step)
            current = torch.where(per_image(halved), top, current)
            gradient = torch.where(per_image(halved), top_gradient, gradient)
            was_halved, checked_value = halved, top_value
            rises, since = torch.zeros_like(rises), 0
            period = max(period - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return best.after((steps + 1) * eot)


def _in_ball(images: Tensor, current: Tensor, radius: Tensor, norm: Literal["l2", "linf"]) -> Tensor:
    return (images + projected(current - images, radius, norm)).clamp(0, 1)


def _start(problem: Problem, number: Tensor) -> Tensor:
    """Random perturbations on every image's sphere."""
    shape = tuple(problem.images.shape[1:])
    if problem.norm == "linf":
        signed = 2 * uniform(problem.seeds, number, shape) - 1
        return signed * per_image(problem.radius / signed.flatten(1).abs().amax(dim=1))
    return rescaled(normal(problem.seeds, number, shape), problem.radius)
