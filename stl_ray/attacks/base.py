"""Attack interface: checks the arguments, runs the method, measures the stored images.

A method implements one function of its threat formulation (`stl_ray.attacks.formulations`), so that no method can
exceed its budget or report an unmeasured success.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, final

from torch import Tensor

from stl_ray.attacks.budget import LEVELS, Budget, Norm, Store
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.result import AttackResult, with_answers
from stl_ray.config.sections import Section
from stl_ray.errors import ConfigError
from stl_ray.models import Victim
from stl_ray.models.inference_mode import outside_inference


class Attack(Section, ABC):
    """An attack with its options as fields; the budget holds for every single image."""

    norms: ClassVar[frozenset[Norm]] = frozenset({"l2", "linf"})
    """Norms that the method supports."""

    needs_gradient: ClassVar[bool] = True
    """Whether a victim without a gradient is of no use to it."""

    @final
    def __call__(
        self,
        victim: Victim,
        images: Tensor,
        labels: Tensor,
        *,
        budget: Budget,
        ids: Sequence[str],
        seed: int,
        store: Store = "u8",
    ) -> AttackResult:
        """Attack every image within its budget; the result of an image does not depend on other images.

        Args:
            victim: the classifier, in eval mode.
            images: (B, 3, H, W) float32 RGB in [0, 1] on the 8-bit grid but for rounding (`images.snapped`), B >= 1.
            labels: (B,) int64, the true classes.
            budget: the largest allowed perturbation; whole levels for linf with 8-bit storage.
            ids: ids of the images; random streams derive from the ids.
            seed: the run seed.
            store: storage of the images, and so what is measured: 8-bit (u8) or float32 (f32).

        Raises:
            TensorError: if an argument has the wrong type, shape or range, or the victim is none.
            ConfigError: if the method does not support the budget's norm, or 8 bits cannot hold the budget.
        """
        self.check(budget, store)
        # In inference mode there would be no gradients.
        with outside_inference():
            problem = Problem.of(victim, images, labels, budget=budget, ids=ids, seed=seed, store=store)
            return with_answers(self.run(problem), problem.record)

    def check(self, budget: Budget, store: Store) -> None:
        """Refuse a budget that the attack or the storage cannot hold.

        Raises:
            ConfigError: if the norm is not supported, or 8 bits cannot hold the budget.
        """
        if budget.norm not in self.norms:
            known = " or ".join(sorted(self.norms))
            raise ConfigError(
                "the attack does not support the norm", item=type(self).__name__, expected=known, got=budget.norm
            )
        levels = budget.size * LEVELS
        if budget.norm == "linf" and store == "u8" and (levels < 0.5 or abs(levels - round(levels)) > 1e-6):
            raise ConfigError(
                "8 bits hold whole levels", item="linf", expected="k / 255, or store: f32", got=budget.size
            )

    @abstractmethod
    def run(self, problem: Problem) -> AttackResult:
        """Craft and measure; implemented by a threat formulation, not by a method."""
