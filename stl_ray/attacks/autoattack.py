"""AutoAttack: four attacks in a row, each on the images that those before left standing. Source: Croce, Hein 2020.

An image that none beats keeps what the first attack made of it. Survivors are judged by the image as stored.
"""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from stl_ray.attacks.apgd import AutoProjectedGradient, AutoProjectedGradientDlr, TargetedAutoProjectedGradient
from stl_ray.attacks.base import Attack, AttackResult, Task
from stl_ray.attacks.fab import TargetedFastAdaptiveBoundary
from stl_ray.attacks.square import Square


class AutoAttack(Attack):
    """The standard cascade APGD-CE, APGD-T, FAB-T, Square; `rand`, for randomised victims: APGD-CE and APGD-DLR."""

    version: Literal["standard", "rand"] = Field("standard", description="standard, or rand for randomised victims")
    steps: int = Field(100, ge=1, description="steps of APGD and FAB")
    targets: int = Field(9, ge=1, description="target classes of APGD-T and FAB-T")
    queries: int = Field(5000, ge=1, description="questions of Square")
    eot: int = Field(20, ge=1, description="answers that rand averages each gradient over")

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

    def run(self, task: Task) -> AttackResult:
        """See `Attack.run`."""
        first, *others = self.attacks()
        result = first.run(task)
        for attack in others:
            left = (task.right & ~result.success).nonzero()[:, 0]
            if len(left) == 0:
                break
            found = attack.run(task.rows(left))
            queries = result.queries.clone()
            queries[left] += found.queries
            won = found.success.nonzero()[:, 0]
            result = replace(result.put(left[won], found.rows(won)), queries=queries)
        return result
