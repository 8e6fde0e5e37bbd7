"""Attack problem: a batch of images with the victim, the budget of every image, and how results are stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stl_ray.attacks.answers import AnswerRecord, RecordedVictim
from stl_ray.attacks.budget import LEVELS, Budget, Norm, Store
from stl_ray.errors import TensorError
from stl_ray.images import quantize, snapped
from stl_ray.models import Victim, against, decided, in_loop, tile_size
from stl_ray.models.inference_mode import without_inference
from stl_ray.seeding import seed_of
from stl_ray.tiling import in_tiles


@dataclass(frozen=True)
class Problem:
    """A batch of images to attack, or one full tile of the batch.

    Attributes:
        victim: the attacked classifier, in eval mode.
        images: (B, 3, H, W) float32 in [0, 1] on the 8-bit grid, unless a method moved the images to other points.
        labels: (B,) int64, the true classes.
        radius: (B,) float32, radius of every image's ball in [0, 1] pixels.
        seeds: (B,) int64, seeds of the images' random streams.
        correct: (B,) bool, whether the victim is right on the clean image, or refuses it.
        budget: the largest allowed perturbation.
        store: how results are stored.
        ids: ids of the images; empty in a tile, which may end in copies.
        seed: the run seed.
        record: what the victim answered, by image of the call.
        places: (B,) int64, the images' rows in the record.
        fixed_tile: overrides the tile size for one-image-at-a-time attacks.
    """

    victim: Victim
    images: Tensor
    labels: Tensor
    radius: Tensor
    seeds: Tensor
    correct: Tensor
    budget: Budget
    store: Store
    ids: Sequence[str]
    seed: int
    record: AnswerRecord
    places: Tensor
    fixed_tile: int | None = None

    @classmethod
    def of(
        cls,
        victim: Victim,
        images: Tensor,
        labels: Tensor,
        *,
        budget: Budget,
        ids: Sequence[str],
        seed: int,
        store: Store = "u8",
    ) -> "Problem":
        """Problem of a batch: checks the images, asks the victim once, derives radii and seeds.

        Args:
            victim: the classifier, in eval mode.
            images: (B, 3, H, W) float32 RGB in [0, 1] on the 8-bit grid but for rounding, B >= 1.
            labels: (B,) int64, the true classes.
            budget: the largest allowed perturbation.
            ids: ids of the images; random streams derive from the ids.
            seed: the run seed.
            store: how results are stored.

        Raises:
            TensorError: if images, labels or ids have the wrong shape, type or range, or a label is no class of the victim.
        """
        _check(images, labels, ids)
        images, labels = snapped(without_inference(images), ids), without_inference(labels)
        seeds = [seed_of(seed, name, "attack") for name in ids]
        answers = decided(victim, images, labels)
        return cls(
            victim=victim,
            images=images,
            labels=labels,
            radius=budget.radius(images),
            seeds=torch.tensor(seeds, dtype=torch.int64, device=images.device),
            correct=answers == labels,
            budget=budget,
            store=store,
            ids=ids,
            seed=seed,
            record=AnswerRecord.of(answers < 0),
            places=torch.arange(len(images), device=images.device),
        )

    @property
    def norm(self) -> Norm:
        """The norm of the balls."""
        return self.budget.norm

    @property
    def levels(self) -> Tensor:
        """8-bit levels of the images, (B, 3, H, W) float64 integers on the CPU."""
        return (self.images.detach().cpu().to(torch.float64) * LEVELS).round()

    def stored(self, levels: Tensor) -> Tensor:
        """Levels, (B, 3, H, W) float64 on the CPU, as stored images in [0, 1] on the problem's device."""
        images = (levels / LEVELS).to(self.images)
        return quantize(images) if self.store == "u8" else images

    def tensors(self) -> tuple[Tensor, ...]:
        """The per-image tensors."""
        return self.images, self.labels, self.radius, self.seeds, self.correct, self.places

    def with_tensors(self, *tensors: Tensor) -> "Problem":
        """The same problem with other per-image tensors, in the order of `tensors`, and without ids."""
        images, labels, radius, seeds, correct, places = tensors
        moved = replace(self, images=images, labels=labels, radius=radius, seeds=seeds)
        return replace(moved, correct=correct, places=places, ids=())

    def rows(self, rows: Tensor) -> "Problem":
        """The problem of some images, (N,) int64; an image may occur several times."""
        part = self.with_tensors(*(tensor[rows.to(tensor.device)] for tensor in self.tensors()))
        return replace(part, ids=[self.ids[row] for row in rows.tolist()])

    def with_images(self, images: Tensor) -> "Problem":
        """The same problem at other points, (B, 3, H, W)."""
        return replace(self, images=images)

    def with_radius(self, radius: Tensor) -> "Problem":
        """The same problem with other radii, (B,)."""
        return replace(self, radius=radius)

    def recorded(self, counted: Tensor | None = None) -> "Problem":
        """The same problem with a victim on these labels, whose answers are finite and recorded; as `RecordedVictim`."""
        victim = against(self.victim, self.labels)
        return replace(self, victim=RecordedVictim(victim, self.record, self.places, self.labels, counted))

    @property
    def tile(self) -> int:
        """Images per tile."""
        if self.fixed_tile is not None:
            return self.fixed_tile
        return tile_size(self.images.shape[-2], self.images.shape[-1], self.images.device)

    def tiled(self, function: "Callable[..., tuple[Tensor, ...]]", *more: Tensor) -> tuple[Tensor, ...]:
        """Apply a function to full tiles and join the outputs.

        Args:
            function: (tile, *rows of `more`) -> tensors, (tile size, ...) each.
            more: further per-image tensors, (B, ...) each.

        Returns:
            The outputs for all images, (B, ...) each.
        """
        count = len(self.tensors())
        return in_tiles(
            lambda *all: function(self.with_tensors(*all[:count]).recorded(), *all[count:]),
            *self.tensors(),
            *more,
            size=self.tile,
        )

    def looped(self, function: "Callable[..., tuple[Tensor, ...]]", *more: Tensor) -> tuple[Tensor, ...]:
        """`tiled`, with every tile as one loop of calls to the victim (`stl_ray.models.Looping`)."""

        def loop(tile: Problem, *rest: Tensor) -> tuple[Tensor, ...]:
            return function(replace(tile, victim=in_loop(tile.victim, tile.seeds.tolist())), *rest)

        return self.tiled(loop, *more)


def _check(images: Tensor, labels: Tensor, ids: Sequence[str]) -> None:
    for item, given in (("images", images), ("labels", labels)):
        if not isinstance(given, Tensor):
            raise TensorError("not a tensor", item=item, expected="torch.as_tensor of it", got=type(given).__name__)
    if images.dim() != 4 or images.shape[1] != 3 or images.dtype != torch.float32 or len(images) == 0:
        got = f"{tuple(images.shape)} {images.dtype}"
        raise TensorError("not an image batch", item="images", expected="(B, 3, H, W) float32, B >= 1", got=got)
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64 or bool((labels < 0).any()):
        got = f"{tuple(labels.shape)} {labels.dtype} from {labels.min() if labels.numel() else 'none'}"
        raise TensorError("labels do not fit", item="labels", expected="one known int64 class per image", got=got)
    if len(ids) != len(images):
        raise TensorError("ids do not fit", item="ids", expected=f"{len(images)} ids", got=len(ids))
