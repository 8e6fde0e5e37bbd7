"""What every attack does: check, find a direction, size it to the budget on the 8-bit grid, measure what is stored.

A method file supplies `perturb` and nothing else, so no method can leave its budget or report an unmeasured success.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import final

import torch
from torch import Tensor

from stl_ray.attacks.sizing import size_to_budget
from stl_ray.config.sections import Section
from stl_ray.errors import TensorError
from stl_ray.images import quantize
from stl_ray.metrics import dissimilarity as dissimilarity_of
from stl_ray.metrics import l2_norm, linf
from stl_ray.models import Victim, predict, tile_size
from stl_ray.seeding import seed_of
from stl_ray.tiling import in_tiles


class AttackStatus(StrEnum):
    """How the attack on one image ended."""

    OK = "ok"
    ALREADY_WRONG = "already_wrong"  # the clean image is misclassified; attacked all the same
    BUDGET_UNREACHABLE = "budget_unreachable"  # black, no gradient, clipped, or too dark for the grid; goes first


@dataclass(frozen=True)
class AttackResult:
    """Adversarial images and what was measured on them as stored, one entry per image."""

    images: Tensor  # (B, 3, H, W) float32 in [0, 1], whole numbers over 255
    success: Tensor  # (B,) bool: right on the clean image and wrong on this one
    status: list[AttackStatus]
    dissimilarity: Tensor  # (B,) float32, ||x' - x|| / ||x||
    linf: Tensor  # (B,) float32, in [0, 1]
    queries: Tensor  # (B,) int32: passes through the victim that the method spent, verdicts not counted
    source_pred: Tensor  # (B,) int64: the victim's class of this image


class Attack(Section, ABC):
    """An attack with its options as fields, held to a dissimilarity of every single image."""

    @abstractmethod
    def perturb(self, victim: Victim, images: Tensor, labels: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """The direction in which each image is to go; its length is settled by the caller.

        Args:
            victim: the classifier.
            images: (B, 3, H, W) in [0, 1]; each is to be treated on its own.
            labels: (B,) true classes.
            radius: (B,) the L2 norm that the perturbation will have, in [0, 1] pixels.

        Returns:
            (B, 3, H, W) directions and (B,) int64 passes through the victim.
        """

    @final
    def __call__(
        self, victim: Victim, images: Tensor, labels: Tensor, *, dissimilarity: float, ids: Sequence[str], seed: int
    ) -> AttackResult:
        """Attack every image at the given budget; an image's result does not depend on the others.

        Args:
            victim: the classifier, in eval mode.
            images: (B, 3, H, W) float32 RGB in [0, 1] on the 8-bit grid, B >= 1.
            labels: (B,) int64, the true classes.
            dissimilarity: budget ||x' - x|| / ||x||, > 0, in pixel space.
            ids: the images' ids, from which their random streams derive.
            seed: the run seed.

        Raises:
            TensorError: if an argument has the wrong shape or range, or the victim's gradient is not finite.
        """
        clean = _levels(images)
        _check(images, labels, ids, dissimilarity)
        right = predict(victim, images) == labels

        def directions(tile: Tensor, tile_labels: Tensor) -> tuple[Tensor, ...]:
            return self.perturb(victim, tile, tile_labels, dissimilarity * l2_norm(tile))

        direction, queries = in_tiles(directions, images, labels, size=tile_size(*images.shape[-2:]))
        sized = [
            size_to_budget(levels, _finite(way, name), dissimilarity, _stream(seed, name))
            for levels, way, name in zip(clean, direction.detach().cpu(), ids, strict=True)
        ]
        levels = torch.stack([item.levels for item in sized])
        adversarial = quantize((levels / 255).to(images))
        source_pred = predict(victim, adversarial)
        return AttackResult(
            images=adversarial,
            success=right & (source_pred != labels),
            status=[_status(item.reached, bool(is_right)) for item, is_right in zip(sized, right, strict=True)],
            # On whole levels the sums are exact, whatever the order in which they are taken.
            dissimilarity=dissimilarity_of(levels, clean).to(torch.float32),
            linf=(linf(levels, clean) / 255).to(torch.float32),
            queries=queries.to(torch.int32),
            source_pred=source_pred,
        )


def cross_entropy_gradient(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient by the image of each image's cross-entropy, (B, 3, H, W).

    Raises:
        TensorError: if a label is not a class of the victim, or a gradient is not finite.
    """
    _, gradient = victim.logits_and_vjp(images, _cross_entropy_cotangent(labels))
    # Here too, because a sign or a norm may turn NaN into a direction.
    return _finite(gradient, "the victim's gradient")


def _cross_entropy_cotangent(labels: Tensor) -> Callable[[Tensor], Tensor]:
    def cotangent(logits: Tensor) -> Tensor:
        classes = logits.shape[1]
        if int(labels.max()) >= classes:
            raise TensorError(
                "a label is no class of the victim", expected=f"0 to {classes - 1}", got=int(labels.max())
            )
        # softmax - one_hot, with the true class as minus the sum of the others: the difference itself is lost to
        # rounding once a probability is near 1, and the gradient of a confident victim would point elsewhere.
        others = logits.softmax(dim=1).scatter(1, labels[:, None], 0)
        return others.scatter(1, labels[:, None], -others.sum(dim=1, keepdim=True))

    return cotangent


def _levels(images: Tensor) -> Tensor:
    """Whole 8-bit levels of images on the 8-bit grid, (B, 3, H, W) float64 on the CPU."""
    if images.dim() != 4 or images.shape[1] != 3 or images.dtype != torch.float32 or len(images) == 0:
        got = f"{tuple(images.shape)} {images.dtype}"
        raise TensorError("not an image batch", item="images", expected="(B, 3, H, W) float32, B >= 1", got=got)
    if not torch.equal(quantize(images), images):
        raise TensorError("images are not 8-bit", item="images", expected="whole numbers 0 to 255 over 255")
    return (images.detach().cpu().to(torch.float64) * 255).round()


def _check(images: Tensor, labels: Tensor, ids: Sequence[str], dissimilarity: float) -> None:
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64 or bool((labels < 0).any()):
        got = f"{tuple(labels.shape)} {labels.dtype} from {labels.min() if labels.numel() else 'none'}"
        raise TensorError("labels do not fit", item="labels", expected="one known int64 class per image", got=got)
    if len(ids) != len(images):
        raise TensorError("ids do not fit", item="ids", expected=f"{len(images)} ids", got=len(ids))
    if not 0 < dissimilarity <= 1:
        raise TensorError("no such budget", item="dissimilarity", expected="over 0, at most 1", got=dissimilarity)


def _finite(direction: Tensor, name: str) -> Tensor:
    if not bool(direction.isfinite().all()):
        raise TensorError("not finite", item=name, expected="finite numbers")
    return direction


def _stream(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, name, "attack rounding"))


def _status(reached: bool, right: bool) -> AttackStatus:
    if not reached:
        return AttackStatus.BUDGET_UNREACHABLE
    return AttackStatus.OK if right else AttackStatus.ALREADY_WRONG
