"""What every attack does: check, craft, hold the budget of every image, and measure what is stored.

A method belongs to a family (`stl_ray.attacks.formulations`) and supplies one function, so that it can neither leave its
budget nor report an unmeasured success.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import ClassVar, final

import torch
from torch import Tensor

from stl_ray.attacks.budget import LEVELS, Budget, Norm, Store, standardized_dissimilarity
from stl_ray.attacks.budget_projection import ProjectedImage
from stl_ray.attacks.randomness import stream
from stl_ray.config.sections import Section
from stl_ray.errors import ConfigError, TensorError
from stl_ray.images import quantize
from stl_ray.metrics import dissimilarity as dissimilarity_of
from stl_ray.metrics import l2_norm, linf
from stl_ray.models import Victim, in_loop, predict, tile_size
from stl_ray.seeding import seed_of
from stl_ray.tiling import in_tiles


class AttackStatus(StrEnum):
    """How the attack on one image ended."""

    OK = "ok"
    ALREADY_WRONG = "already_wrong"  # the clean image is misclassified; attacked all the same
    BUDGET_UNREACHABLE = "budget_unreachable"  # black, no gradient, clipped, or too dark for the grid; goes first
    NOT_FOUND = "not_found"  # a search for the nearest adversarial image found none; the clean one is stored
    OVER_BUDGET = "over_budget"  # what was found is beyond the budget; cut to it


@dataclass(frozen=True)
class AttackResult:
    """Adversarial images and what was measured on them as stored, one entry per image."""

    images: Tensor  # (B, 3, H, W) float32 in [0, 1], whole numbers over 255 for u8
    success: Tensor  # (B,) bool: right on the clean image and wrong on this one
    status: list[AttackStatus]
    dissimilarity: Tensor  # (B,) float32, ||x' - x|| / ||x|| in pixels
    dissimilarity_standardized: Tensor  # (B,) float32, the same after standardization
    l2: Tensor  # (B,) float32, ||x' - x|| of [0, 1] pixels
    linf: Tensor  # (B,) float32, in [0, 1]
    queries: Tensor  # (B,) int32: passes through the victim that the method spent, verdicts not counted
    source_pred: Tensor  # (B,) int64: the victim's class of this image

    def rows(self, rows: Tensor) -> "AttackResult":
        """The result of some of the images, (N,) int64."""
        tensors = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "status"}
        return AttackResult(status=[self.status[row] for row in rows.tolist()], **tensors)

    def put(self, rows: Tensor, other: "AttackResult") -> "AttackResult":
        """This result with the given rows, (N,) int64, taken from `other`, which has those alone."""
        status = list(self.status)
        for row, value in zip(rows.tolist(), other.status, strict=True):
            status[row] = value
        tensors = {field.name: getattr(self, field.name).clone() for field in fields(self) if field.name != "status"}
        for name, values in tensors.items():
            values[rows] = getattr(other, name)
        return AttackResult(status=status, **tensors)


@dataclass(frozen=True)
class Problem:
    """Images to be attacked, as a method sees them: a full tile, or a whole batch of them."""

    victim: Victim
    images: Tensor  # (B, 3, H, W) float32 in [0, 1]
    labels: Tensor  # (B,) int64
    radius: Tensor  # (B,) float32 of [0, 1] pixels, in `norm`
    seeds: Tensor  # (B,) int64, of each image's random streams
    norm: Norm
    fixed_tile: int | None = None  # images in a tile, where a sequence of single images fixes it

    def tensors(self) -> tuple[Tensor, ...]:
        """What there is of every image, for `in_tiles`."""
        return self.images, self.labels, self.radius, self.seeds

    def of(self, images: Tensor, labels: Tensor, radius: Tensor, seeds: Tensor) -> "Problem":
        """The same problem of other images."""
        return replace(self, images=images, labels=labels, radius=radius, seeds=seeds)

    def rows(self, rows: Tensor) -> "Problem":
        """The same problem of some of the images, (N,) int64."""
        return self.of(*(tensor[rows] for tensor in self.tensors()))

    def with_images(self, images: Tensor) -> "Problem":
        """The same problem at other points, (B, 3, H, W)."""
        return replace(self, images=images)

    def with_radius(self, radius: Tensor) -> "Problem":
        """The same problem with other radii, (B,)."""
        return replace(self, radius=radius)

    @property
    def tile(self) -> int:
        """Images in a tile."""
        if self.fixed_tile is not None:
            return self.fixed_tile
        return tile_size(self.images.shape[-2], self.images.shape[-1], self.images.device)

    def tiled(self, function: "Callable[..., tuple[Tensor, ...]]", *more: Tensor) -> tuple[Tensor, ...]:
        """What a function makes of full tiles, and of the same rows of `more`, (B, ...) each; so is what it returns."""
        own = len(self.tensors())
        return in_tiles(lambda *all: function(self.of(*all[:own]), *all[own:]), *self.tensors(), *more, size=self.tile)

    def looped(self, function: "Callable[..., tuple[Tensor, ...]]", *more: Tensor) -> tuple[Tensor, ...]:
        """As `tiled`, where every tile is a loop of its own to the victim."""

        def loop(tile: Problem, *rest: Tensor) -> tuple[Tensor, ...]:
            return function(replace(tile, victim=in_loop(tile.victim, tile.seeds.tolist())), *rest)

        return self.tiled(loop, *more)


@dataclass(frozen=True)
class Task:
    """What an attack is given, checked."""

    victim: Victim
    images: Tensor  # (B, 3, H, W) float32 in [0, 1] on the 8-bit grid
    labels: Tensor  # (B,) int64
    budget: Budget
    ids: Sequence[str]
    seed: int
    store: Store
    right: Tensor  # (B,) bool: the victim is right on the clean image

    @property
    def levels(self) -> Tensor:
        """Whole 8-bit levels of the clean images, (B, 3, H, W) float64 on the CPU."""
        return (self.images.detach().cpu().to(torch.float64) * LEVELS).round()

    def problem(self) -> Problem:
        """What a method sees of it."""
        seeds = [seed_of(self.seed, name, "attack") for name in self.ids]
        return Problem(
            victim=self.victim,
            images=self.images,
            labels=self.labels,
            radius=self.budget.radius(self.images),
            seeds=torch.tensor(seeds, dtype=torch.int64, device=self.images.device),
            norm=self.budget.norm,
        )

    def rows(self, rows: Tensor) -> "Task":
        """The task of some of the images, (N,) int64."""
        ids = [self.ids[row] for row in rows.tolist()]
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            right=self.right[rows.to(self.right.device)],
            ids=ids,
        )


class Attack(Section, ABC):
    """An attack with its options as fields, held to a budget of every single image."""

    norms: ClassVar[frozenset[Norm]] = frozenset({"l2", "linf"})
    """The norms in which the method knows a ball."""

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
        """Attack every image at the given budget; an image's result does not depend on the others.

        Args:
            victim: the classifier, in eval mode.
            images: (B, 3, H, W) float32 RGB in [0, 1] on the 8-bit grid, B >= 1.
            labels: (B,) int64, the true classes.
            budget: how far an image may go; whole levels for linf where 8 bits are stored.
            ids: the images' ids, from which their random streams derive.
            seed: the run seed.
            store: what the images are stored as, and so what is measured: 8-bit (u8) or float32 (f32).

        Raises:
            TensorError: if an argument has the wrong shape or range, or the victim's gradient is not finite.
            ConfigError: if the method does not know the budget's norm, or 8 bits cannot hold the budget.
        """
        _check(images, labels, ids)
        self.check(budget, store)
        right = predict(victim, images) == labels
        return self.run(Task(victim, images, labels, budget, ids, seed, store, right))

    def check(self, budget: Budget, store: Store) -> None:
        """Refuse a budget that this attack or its storage cannot hold.

        Raises:
            ConfigError: as said.
        """
        if budget.norm not in self.norms:
            known = " or ".join(sorted(self.norms))
            raise ConfigError(
                "the attack knows no such ball", item=type(self).__name__, expected=known, got=budget.norm
            )
        levels = budget.size * LEVELS
        if budget.norm == "linf" and store == "u8" and (levels < 0.5 or abs(levels - round(levels)) > 1e-6):
            raise ConfigError(
                "8 bits hold whole levels", item="linf", expected="k / 255, or store: f32", got=budget.size
            )

    @abstractmethod
    def run(self, task: Task) -> AttackResult:
        """Craft and measure; of a family, not of a method."""


def measured(task: Task, images: Tensor, status: Sequence[AttackStatus | None], queries: Tensor) -> AttackResult:
    """What the stored images are: distances, the victim's answer, success.

    Args:
        task: the attack's.
        images: (B, 3, H, W), as they are stored.
        status: of each image where it is not settled by the clean prediction.
        queries: (B,) passes.
    """
    levels, clean = (batch.detach().cpu().to(torch.float64) * LEVELS for batch in (images, task.images))
    if task.store == "u8":
        # On whole levels the sums are exact, whatever the order in which they are taken.
        levels, clean = levels.round(), clean.round()
    source_pred = predict(task.victim, images)
    usual = [AttackStatus.OK if right else AttackStatus.ALREADY_WRONG for right in task.right.tolist()]
    return AttackResult(
        images=images,
        success=task.right & (source_pred != task.labels),
        status=[own or other for own, other in zip(status, usual, strict=True)],
        dissimilarity=dissimilarity_of(levels, clean).to(torch.float32),
        dissimilarity_standardized=standardized_dissimilarity(levels / LEVELS, clean / LEVELS).to(torch.float32),
        l2=(l2_norm(levels - clean) / LEVELS).to(torch.float32),
        linf=(linf(levels, clean) / LEVELS).to(torch.float32),
        queries=queries.to(torch.int32),
        source_pred=source_pred,
    )


def stored_images(levels: Tensor, task: Task) -> Tensor:
    """Levels, (B, 3, H, W) float64 on the CPU, as images that are stored, on the task's device."""
    images = (levels / LEVELS).to(task.images)
    return quantize(images) if task.store == "u8" else images


def project_each(sizing: Callable[..., ProjectedImage], task: Task, change: Tensor) -> list[ProjectedImage]:
    """Every image sized on its own, with its own stream.

    Args:
        sizing: `scale_to_budget` or `project_into_budget`.
        task: the attack's.
        change: (B, 3, H, W) of [0, 1] pixels.
    """
    rows = zip(task.levels, change.detach().cpu().to(torch.float64), task.ids, strict=True)
    return [
        sizing(
            levels,
            _finite(way, name) * LEVELS,
            task.budget,
            task.store,
            stream(seed_of(task.seed, name, "attack rounding")),
        )
        for levels, way, name in rows
    ]


def _check(images: Tensor, labels: Tensor, ids: Sequence[str]) -> None:
    if images.dim() != 4 or images.shape[1] != 3 or images.dtype != torch.float32 or len(images) == 0:
        got = f"{tuple(images.shape)} {images.dtype}"
        raise TensorError("not an image batch", item="images", expected="(B, 3, H, W) float32, B >= 1", got=got)
    if not torch.equal(quantize(images), images):
        raise TensorError("images are not 8-bit", item="images", expected="whole numbers 0 to 255 over 255")
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64 or bool((labels < 0).any()):
        got = f"{tuple(labels.shape)} {labels.dtype} from {labels.min() if labels.numel() else 'none'}"
        raise TensorError("labels do not fit", item="labels", expected="one known int64 class per image", got=got)
    if len(ids) != len(images):
        raise TensorError("ids do not fit", item="ids", expected=f"{len(images)} ids", got=len(ids))


def _finite(change: Tensor, name: str) -> Tensor:
    if not bool(change.isfinite().all()):
        raise TensorError("not finite", item=name, expected="finite numbers")
    return change
