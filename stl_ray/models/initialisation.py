"""Random initial weights from a seed of their own."""

from collections.abc import Callable
from typing import TypeVar

import torch

Made = TypeVar("Made")


def seeded(build: Callable[[], Made], seed: int) -> Made:
    """What `build` returns, such as a module, when torch's generator starts at `seed`.

    Layers draw their weights from the global generator; it is restored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()
