"""The interface by which training reads images: their labels, and ids and pixels by index."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class TrainingImages(Protocol):
    """Labelled images of one size, each with an index from 0 on."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64, by index."""
        ...

    def ids(self, indices: Sequence[int]) -> list[str]:
        """The ids of the images at some indices."""
        ...

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """The images at some indices, (B, 3, H, W) uint8 RGB."""
        ...


@dataclass(frozen=True)
class ImagesInMemory:
    """Training images held in memory.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        labels: (N,) int64.
        image_ids: of the N images.
    """

    images: Tensor
    labels: Tensor
    image_ids: Sequence[str]

    def ids(self, indices: Sequence[int]) -> list[str]:
        """See `TrainingImages`."""
        return [self.image_ids[index] for index in indices]

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """See `TrainingImages`."""
        return self.images[list(indices)]
