"""Intervals and tests for accuracies: integer counts in, plain numbers out. No torch.

Sources: Wilson 1927 (score interval) and McNemar 1947 (exact form), both by scipy; Newcombe 1998, method 10 (paired
difference).
"""

from math import sqrt
from typing import Any, NamedTuple


class Interval(NamedTuple):
    """A proportion or difference with its 95 % interval."""

    estimate: float
    low: float
    high: float


def wilson(successes: int, total: int) -> Interval:
    """Wilson's score interval of a proportion.

    Raises:
        ValueError: unless 0 <= successes <= total and total > 0.
    """
    if not (0 <= successes <= total and total > 0):
        raise ValueError(f"expected 0 <= successes <= total and total > 0; got {successes} of {total}")
    limits = _binomtest(successes, total).proportion_ci(method="wilson")
    return Interval(successes / total, float(limits.low), float(limits.high))


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar p-value from the discordant counts of two classifiers on the same images."""
    discordant = only_first + only_second
    return float(_binomtest(only_first, discordant).pvalue) if discordant else 1.0


def _binomtest(successes: int, total: int) -> Any:
    # Imported where it is used: scipy.stats takes a second.
    from scipy.stats import binomtest

    return binomtest(successes, total)


def paired_difference(both: int, only_first: int, only_second: int, neither: int) -> Interval:
    """Newcombe's interval of p_first - p_second for two classifiers on the same images.

    Args:
        both: images that both have right.
        only_first: images that only the first has right.
        only_second: images that only the second has right.
        neither: images that both have wrong.
    """
    n = both + only_first + only_second + neither
    first, second = wilson(both + only_first, n), wilson(both + only_second, n)
    product = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    phi = 0.0
    if product > 0:
        covariance = float(both * neither - only_first * only_second)
        # Newcombe's continuity correction of phi when it is positive.
        covariance = max(covariance - n / 2, 0.0) if covariance > 0 else covariance
        phi = covariance / sqrt(product)
    down1, up1 = first.estimate - first.low, first.high - first.estimate
    down2, up2 = second.estimate - second.low, second.high - second.estimate
    difference = first.estimate - second.estimate
    low = difference - sqrt(max(0.0, down1**2 - 2 * phi * down1 * up2 + up2**2))
    high = difference + sqrt(max(0.0, up1**2 - 2 * phi * up1 * down2 + down2**2))
    return Interval(difference, low, high)
