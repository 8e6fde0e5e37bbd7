"""Attack results: adversarial images as stored, and their measurements."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from stl_ray.attacks.answers import AnswerRecord
from stl_ray.attacks.budget import LEVELS, standardized_dissimilarity
from stl_ray.attacks.problem import Problem
from stl_ray.metrics import dissimilarity as dissimilarity_of
from stl_ray.metrics import l2_norm, linf
from stl_ray.models import decided


class AttackStatus(StrEnum):
    """How the attack on one image ended; the lower one overrides the upper ones, the last two unless it succeeded."""

    OK = "ok"
    ALREADY_WRONG = "already_wrong"  # the clean image is misclassified; it is attacked all the same
    BUDGET_UNREACHABLE = "budget_unreachable"  # black, clipped, or too dark for the 8-bit grid
    NOT_FOUND = "not_found"  # a minimum-norm search found no adversarial image; the clean image is stored
    OVER_BUDGET = (
        "over_budget"  # what a minimum-norm search found is beyond the budget as stored, and right where cut to it
    )
    NO_GRADIENT = "no_gradient"  # every gradient that the attack asked for was zero: it had nothing to follow
    GRADIENT_NOT_FINITE = "gradient_not_finite"  # a gradient, or the answer to the clean or the stored image


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
    source_pred: (
        Tensor  # (B,) int64: the victim's class of the adversarial image, the label where it refuses; -1: not finite
    )

    def records(self) -> list[dict[str, Any]]:
        """The measurements of each image, by the names of the fields; the status as text."""
        # Each leaves the device in one piece: image by image, every transfer would wait for other work there.
        columns = {
            field.name: [str(status) for status in self.status]
            if field.name == "status"
            else getattr(self, field.name).tolist()
            for field in fields(self)
            if field.name != "images"
        }
        return [{name: values[row] for name, values in columns.items()} for row in range(len(self.status))]

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
    source_pred = decided(problem.victim, images, problem.labels)
    usual = [AttackStatus.OK if correct else AttackStatus.ALREADY_WRONG for correct in problem.correct.tolist()]
    return AttackResult(
        images=images,
        success=problem.correct & (source_pred != problem.labels) & (source_pred >= 0),
        status=[given or other for given, other in zip(status, usual, strict=True)],
        dissimilarity=dissimilarity_of(levels, clean).to(torch.float32),
        dissimilarity_standardized=standardized_dissimilarity(levels / LEVELS, clean / LEVELS).to(torch.float32),
        l2=(l2_norm(levels - clean) / LEVELS).to(torch.float32),
        linf=(linf(levels, clean) / LEVELS).to(torch.float32),
        queries=queries.to(torch.int32),
        source_pred=source_pred,
    )


def with_answers(result: AttackResult, record: AnswerRecord) -> AttackResult:
    """The result, with the statuses that follow from what the victim answered."""
    broken = record.lost | (record.broken > 0) | (result.source_pred < 0)
    rows = zip(result.status, result.success.tolist(), record.without_gradient.tolist(), broken.tolist(), strict=True)
    return replace(result, status=[_status(*row) for row in rows])


def _status(status: AttackStatus, success: bool, flat: bool, broken: bool) -> AttackStatus:
    if success or not (flat or broken):
        return status
    return AttackStatus.GRADIENT_NOT_FINITE if broken else AttackStatus.NO_GRADIENT
