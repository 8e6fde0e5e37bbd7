"""Intervals and tests for accuracies and detectors: counts or scores in, plain numbers out. No torch.

Sources: Wilson 1927 (score interval) and McNemar 1947 (exact form), both by scipy; Newcombe 1998, method 10 (paired
difference); Holm 1979 (several tests at once); Hanley and McNeil 1982 (variance of the area under a ROC curve), its interval
by Newcombe 2006, method 5.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

_Z = 1.959963984540054
"""Of 95 %, as scipy's."""


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


def paired(first: ArrayLike, second: ArrayLike) -> tuple[Interval, float]:
    """How often the first of two classifiers is right minus how often the second is, with the exact McNemar p-value.

    Args:
        first: whether it is right, (N,) bool, N >= 1.
        second: the same of the other, on the same images.
    """
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int((one & ~other).sum()), int((~one & other).sum())
    difference = paired_difference(int((one & other).sum()), only_first, only_second, int((~one & ~other).sum()))
    return difference, mcnemar(only_first, only_second)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order of the given ones.

    Reject those at or below a level, such as 0.05: the probability that one of them is rejected wrongly is at most that level,
    however the tests depend on each other.

    Args:
        p_values: of all tests that are made together, each in [0, 1]; perhaps none.

    Raises:
        ValueError: one is not in [0, 1].
    """
    values = np.asarray(p_values, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"expected p-values in [0, 1]; got {p_values}")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    # The smallest of n counts n times, the next n - 1 times; none is adjusted to less than a smaller one.
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    return [float(value) for value in adjusted]


def auroc(clean: ArrayLike, attacked: ArrayLike) -> Interval:
    """Area under the ROC curve of a score that is to be larger on attacked images: the share of pairs in which it is.

    A tie counts half. The interval has all areas a with |area - a| <= z sd(a), sd by Hanley and McNeil, so that it has a width
    where the classes are separated, as Wilson's has. The two samples are taken for independent; where they are versions of
    the same images it is a little too wide.

    Args:
        clean: scores (m,), m >= 1; infinite ones are allowed.
        attacked: scores (n,), n >= 1.

    Raises:
        ValueError: there is no score, or one is not a number.
    """
    scores = np.concatenate([np.asarray(clean, np.float64), np.asarray(attacked, np.float64)])
    m, n = len(np.asarray(clean)), len(np.asarray(attacked))
    if not (m and n) or np.isnan(scores).any():
        raise ValueError(
            f"expected scores of both kinds; got {m} and {n}, {int(np.isnan(scores).sum())} of them no number"
        )
    ordered = np.sort(scores[:m])
    below, up_to = (np.searchsorted(ordered, scores[m:], side=side).sum() for side in ("left", "right"))
    area = float((below + up_to) / 2) / (m * n)
    return Interval(area, _bound(area, m, n, 0.0), _bound(area, m, n, 1.0))


def roc_points(clean: ArrayLike, attacked: ArrayLike, most: int = 200) -> list[tuple[float, float]]:
    """The ROC curve of a score as corners (share of clean images above a threshold, share of attacked ones), from (0, 0) to (1, 1).

    Args:
        clean: scores (m,), m >= 1.
        attacked: scores (n,), n >= 1.
        most: corners, of which some are left out where there are more.
    """
    first, second = (np.sort(np.asarray(scores, np.float64)) for scores in (clean, attacked))
    levels = np.unique(np.concatenate([first, second]))[::-1]
    shares = [1 - np.searchsorted(scores, levels, side="right") / len(scores) for scores in (first, second)]
    # Above the largest level there is none; at or above the smallest, all.
    points = np.concatenate([np.stack(shares, 1), [[1.0, 1.0]]])
    kept = np.unique(np.linspace(0, len(points) - 1, min(most, len(points))).round().astype(int))
    return [(float(x), float(y)) for x, y in points[kept]]


def _bound(area: float, m: int, n: int, end: float) -> float:
    """The area between the estimate and an end of [0, 1] that lies z standard deviations, its own, from the estimate."""
    near, far = area, end
    for _ in range(60):
        middle = (near + far) / 2
        if abs(middle - area) <= _Z * _sd_of_area(middle, m, n):
            near = middle
        else:
            far = middle
    return near


def _sd_of_area(area: float, m: int, n: int) -> float:
    """Of scores whose distributions are negative exponential, with both sizes replaced by their mean (Newcombe's method 5)."""
    mean = (m + n) / 2 - 1
    return sqrt(area * (1 - area) * (1 + mean * (1 - area) / (2 - area) + mean * area / (1 + area)) / (m * n))
