"""The best iterate along an attack's path: a wrong answer before a right one, then the larger loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from stl_ray.attacks.formulations import RestartResult
from stl_ray.attacks.geometry import per_image


class Best(NamedTuple):
    """The best so far, one entry per image."""

    images: Tensor  # (B, 3, H, W)
    loss: Tensor  # (B,)
    misclassified: Tensor  # (B,) bool

    @classmethod
    def none(cls, images: Tensor) -> "Best":
        """Nothing yet, which any iterate is better than."""
        lowest = images.new_full((len(images),), -torch.inf)
        return cls(images, lowest, torch.zeros_like(lowest, dtype=torch.bool))

    def better_of(self, images: Tensor, value: Tensor, misclassified: Tensor) -> "Best":
        """The better of this and an iterate of such losses that is wrong or not, for every image."""
        better = torch.where(misclassified == self.misclassified, value > self.loss, misclassified)
        return Best(
            torch.where(per_image(better), images, self.images),
            torch.where(better, value, self.loss),
            self.misclassified | misclassified,
        )

    def restart(self, queries: Tensor) -> RestartResult:
        """What is reported of the attempt."""
        return RestartResult(*self, queries)
