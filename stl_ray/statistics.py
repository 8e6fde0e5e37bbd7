"""Intervals and tests for accuracies: integer counts in, plain numbers out. No torch.

Sources: Wilson 1927 (score interval); McNemar 1947 (exact form); Newcombe 1998, method 10 (paired difference).
"""

from math import sqrt
from typing import NamedTuple

Z95 = 1.959963984540054


class Interval(NamedTuple):
    """A proportion or difference with its 95 % interval."""

    estimate: float
    low: float
    high: float


def wilson(successes: int, total: int, z: float = Z95) -> Interval:
    """Wilson's score interval of a proportion.

    Raises:
        ValueError: unless 0 <= successes <= total and total > 0.
    """
    if not (0 <= successes <= total and total > 0):
        raise ValueError(f"expected 0 <= successes <= total and total > 0; got {successes} of {total}")
    p = successes / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    # At the ends the limits are 0 and 1, which rounding would miss.
    low = centre - half if successes > 0 else 0.0
    high = centre + half if successes < total else 1.0
    return Interval(p, low, high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar p-value from the discordant counts of two classifiers on the same images."""
    n = only_first + only_second
    if n == 0:
        return 1.0
    term = tail = 1  # integers: exact at any size; C(n, k + 1) from C(n, k), because comb() anew costs seconds at 10^4
    for k in range(min(only_first, only_second)):
        term = term * (n - k) // (k + 1)
        tail += term
    p: float = 2 * tail / 2**n
    return min(1.0, p)


def paired_difference(both: int, only_first: int, only_second: int, neither: int, z: float = Z95) -> Interval:
    """Newcombe's interval of p_first - p_second for two classifiers on the same images.

    Args:
        both: images that both have right.
        only_first: images that only the first has right.
        only_second: images that only the second has right.
        neither: images that both have wrong.
        z: normal quantile.
    """
    n = both + only_first + only_second + neither
    first, second = wilson(both + only_first, n, z), wilson(both + only_second, n, z)
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
