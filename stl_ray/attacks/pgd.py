"""PGD: BIM from random starts in the ball; the best iterate counts. Source: Madry et al. 2018, section 2.1."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.formulations import RestartResult, Restarts
from stl_ray.attacks.geometry import per_image, projected, rescaled, steepest
from stl_ray.attacks.losses import LOSSES, loss_gradient
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.randomness import normal, uniform


class ProjectedGradient(Restarts):
    """Steepest steps from a random point of the ball, projected onto the ball and then onto the box."""

    steps: int = Field(20, ge=1, description="gradient steps of a run")
    relative_step: float = Field(0.125, gt=0, le=2, description="step length as a share of the radius")
    restarts: int = Field(1, ge=1, description="largest number of runs; a misclassified image is not restarted")
    random_start: bool = Field(
        True, description="start at a random point of the ball; else the first run starts at the image"
    )
    loss: Literal["cross_entropy", "margin", "dlr"] = Field("cross_entropy", description="loss that is maximised")
    eot: int = Field(1, ge=1, description="draws of a randomised victim per gradient (expectation over transformation)")

    @property
    def total_restarts(self) -> int:
        """See `Restarts.total_restarts`."""
        return self.restarts

    def restart(self, problem: Problem, number: Tensor) -> RestartResult:
        """See `Restarts.restart`."""
        return RestartResult(*problem.looped(self._climb, number))

    def _climb(self, problem: Problem, number: Tensor) -> RestartResult:
        images, labels, norm, loss = problem.images, problem.labels, problem.norm, LOSSES[self.loss]
        current = (images + random_point(problem, number)).clamp(0, 1)
        if not self.random_start:
            current = torch.where(per_image(number == 0), images, current)
        best = RestartResult.start(images)
        for _ in range(self.steps):
            logits, gradient = loss_gradient(problem.victim, current, labels, loss, self.eot)
            best = best.better_of(current, loss(logits, labels), logits.argmax(dim=1) != labels)
            stepped = current - images + steepest(gradient, self.relative_step * problem.radius, norm)
            current = (images + projected(stepped, problem.radius, norm)).clamp(0, 1)
        logits = problem.victim.logits(current)
        best = best.better_of(current, loss(logits, labels), logits.argmax(dim=1) != labels)
        return best.after(self.steps * self.eot + 1)


def random_point(problem: Problem, number: Tensor) -> Tensor:
    """Uniform random perturbations in every image's ball, (B, 3, H, W), keyed by the number of the run, (B,)."""
    shape = tuple(problem.images.shape[1:])
    if problem.norm == "linf":
        return (2 * uniform(problem.seeds, number, shape) - 1) * per_image(problem.radius)
    size = problem.images[0].numel()
    # The norm of a uniform point of an n-dimensional ball is U^(1/n) of the radius.
    share = uniform(problem.seeds, 2**32 + number, (1,))[:, 0] ** (1 / size)
    return rescaled(normal(problem.seeds, number, shape), share * problem.radius)
