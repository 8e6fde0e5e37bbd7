"""The families of attacks: what a method file supplies, and how its answer is held to the budget.

FixedBudget   the worst image in a ball; sized exactly to the budget in L2, and kept as the point it is in L_inf
  SingleRun   `perturb`: one answer
  Restarts    `restart`: several runs, each on the images that no earlier run got misclassified
MinimumNorm   `search`: the nearest adversarial image, cut to the budget where it is over it
"""

from abc import abstractmethod
from typing import ClassVar, Literal, NamedTuple, final

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.base import (
    Attack,
    AttackResult,
    AttackStatus,
    Problem,
    Task,
    measured,
    project_each,
    stored_images,
)
from stl_ray.attacks.budget_projection import project_into_budget, scale_to_budget
from stl_ray.attacks.speculation import fill_tile


class FixedBudget(Attack):
    """An attack that looks for the worst image in a ball."""

    @abstractmethod
    def craft(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Perturbations of a whole batch, (B, 3, H, W) of [0, 1] pixels, and (B,) int64 passes through the victim."""

    @final
    def run(self, task: Task) -> AttackResult:
        """Craft, size to the budget, measure."""
        change, queries = self.craft(task.problem())
        sized = project_each(scale_to_budget, task, change)
        images = stored_images(torch.stack([item.levels for item in sized]), task)
        unreachable = [None if item.reached else AttackStatus.BUDGET_UNREACHABLE for item in sized]
        return measured(task, images, unreachable, queries)


class SingleRun(FixedBudget):
    """An attack that goes its way once."""

    @abstractmethod
    def perturb(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """A perturbation of every image of a full tile.

        Args:
            problem: the images, each to be treated on its own.

        Returns:
            (B, 3, H, W) perturbations of [0, 1] pixels, within the radius for linf (for l2 their length is settled by
            the caller), and (B,) int64 passes through the victim.
        """

    def craft(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `FixedBudget.craft`."""
        change, queries = problem.looped(self.perturb)
        return change, queries


class RestartResult(NamedTuple):
    """What an attempt found, one entry per image."""

    images: Tensor  # (B, 3, H, W) in [0, 1], in the ball
    loss: Tensor  # (B,), higher for a worse answer
    misclassified: Tensor  # (B,) bool, the victim is wrong on it
    queries: Tensor  # (B,) int64, passes through the victim


class Restarts(FixedBudget):
    """An attack of several attempts, each on the images that are not beaten yet; the best attempt of an image counts.

    An image's next attempts run ahead in places of a tile that would be empty, and are forgotten if it is beaten before.
    """

    speculative: ClassVar[bool] = True
    """Whether attempts fill tiles; False where they fill them on their own."""

    @property
    @abstractmethod
    def total_restarts(self) -> int:
        """How many, at most."""

    @abstractmethod
    def restart(self, problem: Problem, number: Tensor) -> RestartResult:
        """One attempt on every image of a batch, of which some may be the same.

        Args:
            problem: the images, each to be treated on its own.
            number: (B,) int64, of the attempt on each, from 0.
        """

    def craft(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `FixedBudget.craft`."""
        tried = torch.zeros_like(problem.labels)
        best = RestartResult(
            problem.images.clone(), torch.full_like(problem.radius, -torch.inf), tried.bool(), torch.zeros_like(tried)
        )
        places = problem.tile if self.speculative else 1
        while len(left := (~best.misclassified & (tried < self.total_restarts)).nonzero()[:, 0]):
            rows, ahead = fill_tile(left, self.total_restarts - tried[left], places)
            found = self.restart(problem.rows(rows), tried[rows] + ahead)
            for step in range(int(ahead.max()) + 1):
                counts = (ahead == step) & ~best.misclassified[rows]
                better = counts & (found.misclassified | (found.loss > best.loss[rows]))
                for old, new in zip(best[:3], found[:3], strict=True):
                    old[rows[better]] = new[better]
                best.queries[rows[counts]] += found.queries[counts]
                tried[rows[counts]] += 1
        return best.images - problem.images, best.queries


class MinimumNorm(Attack):
    """An attack that looks for the nearest adversarial image."""

    sized: Literal["found", "budget"] = Field(
        "found", description="found: the nearest adversarial image, cut to the budget where it is over it; budget: every "
        "perturbation rescaled to the budget, as tables of one mean dissimilarity appear to have been made"
    )  # fmt: skip

    @abstractmethod
    def search(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """The nearest adversarial image of every image of a batch that the method finds.

        Args:
            problem: the images, each to be treated on its own (`stl_ray.attacks.early_stopping`).

        Returns:
            (B, 3, H, W) adversarial images in [0, 1], the clean image where none was found or it is wrong itself, and
            (B,) int64 passes through the victim.
        """

    @final
    def run(self, task: Task) -> AttackResult:
        """Search, hold within the budget, measure."""
        found, queries = self.search(task.problem())
        change = found - task.images
        missing = (change == 0).flatten(1).all(dim=1)
        sized = project_each(scale_to_budget if self.sized == "budget" else project_into_budget, task, change)
        images = stored_images(torch.stack([item.levels for item in sized]), task)
        if self.sized == "found" and task.store == "f32":
            # To the bit what the method saw: an image that is barely adversarial may not move by a rounding.
            kept = torch.tensor([not item.reached for item in sized], device=images.device)
            images = torch.where(kept[:, None, None, None], found, images)
        moved = (images != task.images).flatten(1).any(dim=1)
        status: list[AttackStatus | None] = []
        for item, lost, moves, right in zip(sized, missing.tolist(), moved.tolist(), task.right.tolist(), strict=True):
            if lost:
                status.append(AttackStatus.NOT_FOUND if right else None)
            elif not moves or (self.sized == "budget" and not item.reached):
                status.append(AttackStatus.BUDGET_UNREACHABLE)
            else:
                status.append(AttackStatus.OVER_BUDGET if item.reached and self.sized == "found" else None)
        return measured(task, images, status, queries)
