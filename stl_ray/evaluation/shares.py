"""Numbers of images among others, with their intervals."""

from dataclasses import dataclass

import numpy as np

from stl_ray.statistics import wilson


@dataclass(frozen=True)
class Share:
    """A number of images among others, with the 95 % Wilson interval of its share."""

    count: int
    total: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, chosen: np.ndarray) -> "Share | None":
        """The share of the chosen images (N,) bool; None of no image."""
        if not len(chosen):
            return None
        interval = wilson(int(chosen.sum()), len(chosen))
        return cls(int(chosen.sum()), len(chosen), *interval)
