"""Threat formulations: what a method implements, and how its result is brought to the budget.

FixedBudget   the worst image in a ball: scaled exactly to the budget in L2, kept as a point of the ball in L_inf
  SingleRun   `perturb`: one run
  Restarts    `restart`: several runs; each run attacks the images that no earlier run got misclassified
MinimumNorm   `search`: the nearest adversarial image, cut to the budget where it is beyond
"""

from abc import abstractmethod
from typing import ClassVar, Literal, NamedTuple, final

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.base import Attack
from stl_ray.attacks.budget_projection import ProjectedImage, project_each, project_into_budget, scale_to_budget
from stl_ray.attacks.geometry import per_image
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.result import AttackResult, AttackStatus, measure
from stl_ray.attacks.speculation import fill_tile


class FixedBudget(Attack):
    """An attack that searches for the worst image in a ball."""

    @abstractmethod
    def craft(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Perturbations of a whole batch, (B, 3, H, W) of [0, 1] pixels, and (B,) int64 passes through the victim."""

    @final
    def run(self, problem: Problem) -> AttackResult:
        """Craft, scale to the budget, measure."""
        change, queries = self.craft(problem)
        projected = project_each(scale_to_budget, problem, change)
        images = problem.stored(torch.stack([item.levels for item in projected]))
        status = [None if item.at_budget else AttackStatus.BUDGET_UNREACHABLE for item in projected]
        return measure(problem, images, status, queries)


class SingleRun(FixedBudget):
    """A fixed-budget attack of one run."""

    @abstractmethod
    def perturb(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Perturbations of a full tile.

        Args:
            problem: the tile; every image is treated on its own.

        Returns:
            (B, 3, H, W) perturbations of [0, 1] pixels, and (B,) int64 passes through the victim. For linf a
            perturbation is within the radius; for l2 its length does not matter, because the caller scales it.
        """

    def craft(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `FixedBudget.craft`."""
        change, queries = problem.looped(self.perturb)
        return change, queries


class RestartResult(NamedTuple):
    """The best iterate of a run: a misclassified iterate before any other, then the larger loss; per image."""

    images: Tensor  # (B, 3, H, W) in [0, 1], in the ball
    loss: Tensor  # (B,), larger is worse for the victim
    misclassified: Tensor  # (B,) bool
    queries: Tensor  # (B,) int64, passes through the victim

    @classmethod
    def start(cls, images: Tensor) -> "RestartResult":
        """A result that every iterate improves on."""
        lowest = images.new_full((len(images),), -torch.inf)
        none = torch.zeros_like(lowest, dtype=torch.int64)
        return cls(images, lowest, none.bool(), none)

    def better_of(self, images: Tensor, loss: Tensor, misclassified: Tensor) -> "RestartResult":
        """The better of this result and an iterate, per image."""
        better = torch.where(misclassified == self.misclassified, loss > self.loss, misclassified)
        return RestartResult(
            torch.where(per_image(better), images, self.images),
            torch.where(better, loss, self.loss),
            self.misclassified | misclassified,
            self.queries,
        )

    def after(self, queries: int) -> "RestartResult":
        """This result after so many passes per image."""
        return self._replace(queries=torch.full_like(self.queries, queries))


class Restarts(FixedBudget):
    """A fixed-budget attack of several runs: misclassified images are not restarted, the best run of an image counts.

    Spare batch slots run later restarts of an image speculatively; they are dropped if an earlier restart succeeds.
    """

    speculative: ClassVar[bool] = True
    """Whether spare slots run later restarts; False for methods that fill tiles on their own."""

    @property
    @abstractmethod
    def total_restarts(self) -> int:
        """Runs per image at most."""

    @abstractmethod
    def restart(self, problem: Problem, number: Tensor) -> RestartResult:
        """One run on every image of a batch.

        Args:
            problem: the batch; every image is treated on its own and may occur several times.
            number: (B,) int64, number of the run on each image, from 0.
        """

    def craft(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `FixedBudget.craft`."""
        done = torch.zeros_like(problem.labels)
        best = RestartResult.start(problem.images.clone())
        slots = problem.tile if self.speculative else 1
        while len(left := (~best.misclassified & (done < self.total_restarts)).nonzero()[:, 0]):
            rows, ahead = fill_tile(left, self.total_restarts - done[left], slots)
            result = self.restart(problem.rows(rows), done[rows] + ahead)
            for step in range(int(ahead.max()) + 1):
                counts = (ahead == step) & ~best.misclassified[rows]
                better = counts & (result.misclassified | (result.loss > best.loss[rows]))
                for old, new in zip(best[:3], result[:3], strict=True):
                    old[rows[better]] = new[better]
                best.queries[rows[counts]] += result.queries[counts]
                done[rows[counts]] += 1
        return best.images - problem.images, best.queries


class MinimumNorm(Attack):
    """An attack that searches for the nearest adversarial image."""

    sized: Literal["found", "budget"] = Field(
        "found", description="found: the nearest adversarial image, cut to the budget where it is beyond; budget: "
        "every perturbation rescaled to the budget, as tables of one mean dissimilarity appear to have been made"
    )  # fmt: skip

    @abstractmethod
    def search(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """The nearest adversarial image of every image of a batch.

        Args:
            problem: the batch; every image is treated on its own (`stl_ray.attacks.early_stopping`).

        Returns:
            (B, 3, H, W) adversarial images in [0, 1], and (B,) int64 passes through the victim. The clean image stands
            where none was found, or where the clean image is misclassified itself.
        """

    @final
    def run(self, problem: Problem) -> AttackResult:
        """Search, project into the budget, measure."""
        nearest, queries = self.search(problem)
        change = nearest - problem.images
        missing = (change == 0).flatten(1).all(dim=1)
        projection = scale_to_budget if self.sized == "budget" else project_into_budget
        projected = project_each(projection, problem, change)
        images = problem.stored(torch.stack([item.levels for item in projected]))
        if self.sized == "found" and problem.store == "f32":
            # An image that is barely adversarial must keep every bit: a rounding may undo the success.
            kept = torch.tensor([not item.at_budget for item in projected], device=images.device)
            images = torch.where(per_image(kept), nearest, images)
        moved = (images != problem.images).flatten(1).any(dim=1)
        rows = zip(projected, missing.tolist(), moved.tolist(), problem.correct.tolist(), strict=True)
        status = [self._status(*row) for row in rows]
        return measure(problem, images, status, queries)

    def _status(self, item: ProjectedImage, missing: bool, moved: bool, correct: bool) -> AttackStatus | None:
        if missing:
            return AttackStatus.NOT_FOUND if correct else None
        if not moved or (self.sized == "budget" and not item.at_budget):
            return AttackStatus.BUDGET_UNREACHABLE
        return AttackStatus.OVER_BUDGET if item.at_budget and self.sized == "found" else None
