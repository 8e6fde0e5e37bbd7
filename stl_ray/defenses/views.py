"""The views of some images behind a defense: their logits together, and how these are differentiated.

Of several views the logits are the logarithm of the mean softmax, and products are those of its Jacobian: of the mean, not
the mean of the views' losses.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stl_ray.defenses.base import Defense, Pullback
from stl_ray.models import Victim
from stl_ray.seeding import seed_of


@dataclass(frozen=True)
class View:
    """One view of some images, as it is differentiated."""

    network: Victim
    images: Tensor  # (B, 3, H, W), as the network sees them
    pullback: Pullback
    lost: Tensor  # (B,) bool, solves that diverged

    def product(self, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (B, n) and J^T cotangent(logits) (B, 3, H, W), J of the network and the transformation."""
        logits, v = self.network.logits_and_vjp(self.images, cotangent)
        return logits, self.pulled(v)

    def pulled(self, v: Tensor) -> Tensor:
        """J^T v (B, 3, H, W), J of the transformation: zero where its solve diverged, which has no derivative."""
        return self.pullback(v).masked_fill(self.lost[:, None, None, None], 0)


def logits_and_vjp(views: Sequence[View], cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Logits of all views together, and the product with their Jacobian."""
    if len(views) == 1:
        return views[0].product(cotangent)
    logits = mean_softmax([view.network.logits(view.images) for view in views])
    v = cotangent(logits)

    def of_view(own: Tensor) -> Tensor:
        # L_k = log(mean of p_k): dL_k / dz_j = p_k (1[j = k] - p_j) / (views exp(L_k)), z of this view and p its softmax.
        weights = v * (own.log_softmax(1) - logits).exp() / len(views)
        return weights - own.softmax(1) * weights.sum(1, keepdim=True)

    return logits, torch.stack([view.product(of_view)[1] for view in views]).sum(0)


def mean_softmax(logits: Sequence[Tensor]) -> Tensor:
    """Logits (B, n) of an ensemble: of one view its own, of several the logarithm of their mean softmax."""
    if len(logits) == 1:
        return logits[0]
    return torch.stack([view.log_softmax(1) for view in logits]).logsumexp(0) - math.log(len(logits))


def seeds_of_views(defense: Defense, seeds: Sequence[int]) -> list[list[int]]:
    """The seeds (B,) of every view of some images: of one view theirs, of several others that derive from them."""
    count = len(defense.views)
    if count == 1 or not defense.randomised:
        return [list(seeds)] * count
    return [[seed_of(seed, str(number), "view") for seed in seeds] for number in range(count)]
