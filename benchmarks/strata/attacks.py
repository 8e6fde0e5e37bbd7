"""The pipeline's default attacks on the vanilla classifier, as `stl-ray attack` crafts and stores them."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.common.progress import Progress
from benchmarks.common.stored_images import Stored
from stl_ray.attacks import budget_of, make_attack
from stl_ray.config.attacks import AttackConfig
from stl_ray.models import Victim

PART = 128
"""Images that are attacked between two lines of progress: a tile of the classifier."""

_SEED = 0


@dataclass(frozen=True)
class Attacked:
    """One set.

    Attributes:
        images: (N, 3, H, W) in [0, 1], on the 8-bit grid.
        budget: the dissimilarity that every image was allowed.
        dissimilarity: (N,) float32, of the stored images.
        statuses: how many attacks ended how.
    """

    images: Tensor
    budget: float
    dissimilarity: Tensor
    statuses: Counter[str]


def attack_all(victim: Victim, images: Tensor, stored: Stored, progress: Progress) -> dict[str, Attacked]:
    """The sets of `AttackConfig` by name, of clean images (N, 3, H, W)."""
    found = {}
    for config in AttackConfig().sets:
        attack, budget = make_attack(config.attack, config.options), budget_of(config)
        results = []
        for start in range(0, len(images), PART):
            progress.tell(f"{config.name}: image {start + 1} of {len(images)}", now=start == 0)
            part = slice(start, start + PART)
            results.append(
                attack(
                    victim,
                    images[part],
                    stored.labels[part],
                    budget=budget,
                    ids=stored.ids[part],
                    seed=_SEED,
                )
            )
        found[config.name] = Attacked(
            torch.cat([result.images for result in results]),
            budget.size,
            torch.cat([result.dissimilarity for result in results]),
            Counter(str(status) for result in results for status in result.status),
        )
    return found
