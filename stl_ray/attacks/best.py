"""The best iterate along an attack's path: a wrong answer before a right one, then the larger loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from stl_ray.attacks.families import Attempt
from stl_ray.attacks.geometry import column


class Best(NamedTuple):
    """The best so far, one entry per image."""

    images: Tensor  # (B, 3, H, W)
    loss: Tensor  # (B,)
    beaten: Tensor  # (B,) bool

    @classmethod
    def none(cls, images: Tensor) -> "Best":
        """Nothing yet, which any iterate is better than."""
        lowest = images.new_full((len(images),), -torch.inf)
        return cls(images, lowest, torch.zeros_like(lowest, dtype=torch.bool))

    def or_else(self, images: Tensor, value: Tensor, beaten: Tensor) -> "Best":
        """The better of this and an iterate of such losses that is wrong or not, for every image."""
        better = torch.where(beaten == self.beaten, value > self.loss, beaten)
        return Best(
            torch.where(column(better), images, self.images),
            torch.where(better, value, self.loss),
            self.beaten | beaten,
        )

    def attempt(self, queries: Tensor) -> Attempt:
        """What is reported of the attempt."""
        return Attempt(*self, queries)
