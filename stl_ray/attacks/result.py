"""Attack results: adversarial images as stored, and their measurements."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

import torch
from torch import Tensor

from stl_ray.attacks.budget import LEVELS, standardized_dissimilarity
from stl_ray.attacks.problem import Problem
from stl_ray.metrics import dissimilarity as dissimilarity_of
from stl_ray.metrics import l2_norm, linf
from stl_ray.models import predict


class AttackStatus(StrEnum):
    """How the attack on one image ended; `BUDGET_UNREACHABLE` overrides `ALREADY_WRONG`."""

    OK = "ok"
    ALREADY_WRONG = "already_wrong"  # the clean image is misclassified; it is attacked all the same
    BUDGET_UNREACHABLE = "budget_unreachable"  # black, no gradient, clipped, or too dark for the 8-bit grid
    NOT_FOUND = "not_found"  # a minimum-norm search found no adversarial image; the clean image is stored
    OVER_BUDGET = (
        "over_budget"  # what a minimum-norm search found is beyond the budget as stored, and right where cut to it
    )


@dataclass(frozen=True)
class AttackResult:
    """Adversarial images and their measurements as stored, one entry per image."""

    images: Tensor  # (B, 3, H, W) float32 in [0, 1], integers over 255 for u8
    success: Tensor  # (B,) bool: right on the clean image and wrong on the adversarial image
    status: list[AttackStatus]
    dissimilarity: Tensor  # (B,) float32, ||x' - x|| / ||x|| in pixels
    dissimilarity_standardized: Tensor  # (B,) float32, the same after standardization
    l2: Tensor  # (B,) float32, ||x' - x|| of [0, 1] pixels
    linf: Tensor  # (B,) float32, in [0, 1]
    queries: Tensor  # (B,) int32: passes through the victim by the method, without the verdicts
    source_pred: Tensor  # (B,) int64: the victim's class of the adversarial image

    def rows(self, rows: Tensor) -> "AttackResult":
        """The result of some of the images, (N,) int64."""
        tensors = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "status"}
        return AttackResult(status=[self.status[row] for row in rows.tolist()], **tensors)

    def put(self, rows: Tensor, other: "AttackResult") -> "AttackResult":
        """This result with the given rows, (N,) int64, replaced by `other`, a result of N images."""
        status = list(self.status)
        for row, value in zip(rows.tolist(), other.status, strict=True):
            status[row] = value
        tensors = {field.name: getattr(self, field.name).clone() for field in fields(self) if field.name != "status"}
        for name, values in tensors.items():
            values[rows] = getattr(other, name)
        return AttackResult(status=status, **tensors)


def measure(problem: Problem, images: Tensor, status: Sequence[AttackStatus | None], queries: Tensor) -> AttackResult:
    """Measurements of stored images: distances, the victim's prediction, success.

    Args:
        problem: the clean images.
        images: (B, 3, H, W), as stored.
        status: per image; None: `OK` or `ALREADY_WRONG`, by the clean prediction.
        queries: (B,) passes through the victim.
    """
    levels, clean = (batch.detach().cpu().to(torch.float64) * LEVELS for batch in (images, problem.images))
    if problem.store == "u8":
        # Sums over integers are exact in any order.
        levels, clean = levels.round(), clean.round()
    source_pred = predict(problem.victim, images)
    usual = [AttackStatus.OK if correct else AttackStatus.ALREADY_WRONG for correct in problem.correct.tolist()]
    return AttackResult(
        images=images,
        success=problem.correct & (source_pred != problem.labels),
        status=[given or other for given, other in zip(status, usual, strict=True)],
        dissimilarity=dissimilarity_of(levels, clean).to(torch.float32),
        dissimilarity_standardized=standardized_dissimilarity(levels / LEVELS, clean / LEVELS).to(torch.float32),
        l2=(l2_norm(levels - clean) / LEVELS).to(torch.float32),
        linf=(linf(levels, clean) / LEVELS).to(torch.float32),
        queries=queries.to(torch.int32),
        source_pred=source_pred,
    )
