"""Threat formulations: what a method implements, and how its result is brought to the budget.

FixedBudget   the worst image in a ball: scaled exactly to the budget in L2, kept as a point of the ball in L_inf
  SingleRun   `perturb`: one run
  Restarts    `restart`: several runs; each run attacks the images that no earlier run got misclassified
MinimumNorm   `search`: the nearest adversarial image, as stored; cut to the budget where it is beyond
"""

from abc import abstractmethod
from typing import ClassVar, Literal, NamedTuple, final

import torch
from pydantic import Field
from torch import Tensor

from stl_ray.attacks.base import Attack
from stl_ray.attacks.budget_projection import scale_each
from stl_ray.attacks.geometry import per_image
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.result import AttackResult, AttackStatus, measure
from stl_ray.attacks.speculation import fill_tile
from stl_ray.attacks.stored_search import nearest_stored


class FixedBudget(Attack):
    """An attack that searches for the worst image in a ball."""

    @abstractmethod
    def craft(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Perturbations of a whole batch, (B, 3, H, W) of [0, 1] pixels, and (B,) int64 passes through the victim."""

    @final
    def run(self, problem: Problem) -> AttackResult:
        """Craft, scale to the budget, measure."""
        change, queries = self.craft(problem)
        projected = scale_each(problem, change)
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
        # Of an image that an iterate beat, runs in spare slots may be recorded that no other batch would have had.
        problem.record.forget(problem.places[best.misclassified])
        return best.images - problem.images, best.queries


class MinimumNorm(Attack):
    """An attack that searches for the nearest adversarial image."""

    sized: Literal["found", "budget"] = Field(
        "found", description="found: the nearest adversarial image as stored, cut to the budget where it is beyond; budget: "
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
        """Search, carry what was found over to the storage and into the budget, measure."""
        nearest, queries = self.search(problem)
        found = (nearest != problem.images).flatten(1).any(dim=1)
        if self.sized == "found":
            images, wrong, passes = nearest_stored(problem, nearest, found)
            queries = queries + passes
            missed = [None if misclassified else AttackStatus.OVER_BUDGET for misclassified in wrong.tolist()]
        else:
            projected = scale_each(problem, nearest - problem.images)
            images = problem.stored(torch.stack([item.levels for item in projected]))
            missed = [None if item.at_budget else AttackStatus.BUDGET_UNREACHABLE for item in projected]
        moved = (images != problem.images).flatten(1).any(dim=1)
        rows = zip(missed, found.tolist(), moved.tolist(), problem.correct.tolist(), strict=True)
        return measure(problem, images, [_status(*row) for row in rows], queries)


def _status(missed: AttackStatus | None, found: bool, moved: bool, correct: bool) -> AttackStatus | None:
    if not found:
        return AttackStatus.NOT_FOUND if correct else None
    return missed if moved else AttackStatus.BUDGET_UNREACHABLE
