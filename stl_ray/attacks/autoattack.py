"""AutoAttack: a cascade of four attacks, each on the survivors of the previous ones. Source: Croce, Hein 2020.

An image that survives all attacks keeps the result of the first attack. Survival is decided on the stored image.
"""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from stl_ray.attacks.apgd import AutoProjectedGradient, AutoProjectedGradientDlr, TargetedAutoProjectedGradient
from stl_ray.attacks.base import Attack
from stl_ray.attacks.fab import TargetedFastAdaptiveBoundary
from stl_ray.attacks.problem import Problem
from stl_ray.attacks.result import AttackResult
from stl_ray.attacks.square import Square


class AutoAttack(Attack):
    """Standard: APGD-CE, APGD-T, FAB-T, Square. `rand`, for randomised victims: APGD-CE and APGD-DLR."""

    version: Literal["standard", "rand"] = Field("standard", description="standard, or rand for randomised victims")
    steps: int = Field(100, ge=1, description="steps of APGD and FAB")
    targets: int = Field(9, ge=1, description="target classes of APGD-T and FAB-T")
    queries: int = Field(5000, ge=1, description="queries of Square")
    eot: int = Field(20, ge=1, description="draws per gradient of rand (expectation over transformation)")

    def attacks(self) -> list[Attack]:
        """The cascade, in order."""
        if self.version == "rand":
            return [
                AutoProjectedGradient(steps=self.steps, eot=self.eot),
                AutoProjectedGradientDlr(steps=self.steps, eot=self.eot),
            ]
        return [
            AutoProjectedGradient(steps=self.steps),
            TargetedAutoProjectedGradient(steps=self.steps, targets=self.targets),
            TargetedFastAdaptiveBoundary(steps=self.steps, targets=self.targets, until_within=True),
            Square(queries=self.queries),
        ]

    def run(self, problem: Problem) -> AttackResult:
        """See `Attack.run`."""
        first, *others = self.attacks()
        result = first.run(problem)
        for attack in others:
            left = (problem.correct & ~result.success).nonzero()[:, 0]
            if len(left) == 0:
                break
            later = attack.run(problem.rows(left))
            queries = result.queries.clone()
            queries[left] += later.queries
            succeeded = later.success.nonzero()[:, 0]
            result = replace(result.put(left[succeeded], later.rows(succeeded)), queries=queries)
        return result
