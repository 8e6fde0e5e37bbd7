"""What a victim answered to an attack, by image: gradients that are not finite, or that are zero everywhere.

An answer that is not finite is replaced: the product by zero, the logits by ones that are right beyond doubt. So such an
image stands still and its batch mates go on; its status says what happened to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stl_ray.models import Victim, in_loop, logits_and_vjps

_SURE = 1e30  # sums and products with it stay finite


@dataclass(frozen=True)
class AnswerRecord:
    """By image of one call of an attack, (B,): counts of the products (J^T v), int64, and whether the clean one has logits."""

    lost: Tensor  # bool: the logits of the clean image are not finite
    asked: Tensor
    nonzero: Tensor
    broken: Tensor  # not finite

    @classmethod
    def of(cls, lost: Tensor) -> "AnswerRecord":
        """A record without products."""
        return cls(lost, *(torch.zeros_like(lost, dtype=torch.int64) for _ in range(3)))

    def forget(self, rows: Tensor) -> None:
        """Drop the counts of some images, (N,) int64."""
        for counts in (self.asked, self.nonzero, self.broken):
            counts[rows] = 0

    @property
    def without_gradient(self) -> Tensor:
        """(B,) bool: every product that was asked for was zero."""
        return (self.asked > 0) & (self.nonzero == 0)


@dataclass(frozen=True)
class RecordedVictim:
    """A victim for the images of one tile, whose answers are finite and are recorded.

    Attributes:
        victim: the classifier.
        record: where the answers are counted.
        rows: (T,) int64, the tile's images in the record; one row may answer for many images.
        labels: (T,) int64, the true classes.
        counted: (T,) bool, the images whose answers count; None: all. The others are mates that are done.
    """

    victim: Victim
    record: AnswerRecord
    rows: Tensor
    labels: Tensor
    counted: Tensor | None = None

    def logits(self, images: Tensor) -> Tensor:
        """See `Victim`."""
        return self._finite(self.victim.logits(images))

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """See `Victim`."""
        logits, product = self.victim.logits_and_vjp(images, cotangent)
        return self._finite(logits), self._recorded(product[None])[0]

    def logits_and_vjps(self, images: Tensor, cotangents: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """See `ManyProducts`."""
        logits, products = logits_and_vjps(self.victim, images, cotangents)
        return self._finite(logits), self._recorded(products)

    def loop(self, items: Sequence[str | int]) -> Victim:
        """See `Looping`."""
        return RecordedVictim(in_loop(self.victim, items), self.record, self.rows, self.labels, self.counted)

    def _finite(self, logits: Tensor) -> Tensor:
        true = self.labels.clamp(max=logits.shape[1] - 1).expand(len(logits))[:, None]
        right = torch.zeros_like(logits).scatter(1, true, _SURE)
        return torch.where(logits.isfinite().all(dim=1, keepdim=True), logits, right)

    def _recorded(self, products: Tensor) -> Tensor:
        peaks = products.flatten(2).abs().amax(dim=2)  # (R, B); NaN where a value is
        finite = peaks.isfinite()
        seen = (torch.ones_like(finite[0]), (finite & (peaks > 0)).any(dim=0), ~finite.all(dim=0))
        for counts, mask in zip((self.record.asked, self.record.nonzero, self.record.broken), seen, strict=True):
            mask = mask if self.counted is None else mask & self.counted
            counts.index_add_(0, self.rows.expand(len(mask)), mask.long())
        return torch.where(finite[:, :, None, None, None], products, 0)
