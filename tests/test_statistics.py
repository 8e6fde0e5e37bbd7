from math import comb

import pytest

from stl_ray.statistics import mcnemar, paired_difference, wilson


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    # Newcombe, Statistics in Medicine, 1998, table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_agrees_wilson_with_published_examples(successes, total, low, high):
    interval = wilson(successes, total)
    assert interval.estimate == successes / total
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(total - successes, total)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((interval.low, interval.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "total"), [(-1, 5), (6, 5), (0, 0)])
def test_refuses_counts_that_are_no_proportion(successes, total):
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, total)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 3), (0, 9), (9, 2), (40, 70), (490, 510), (0, 900)])
def test_agrees_mcnemar_with_the_sum_of_whole_numbers(first, second):
    tail = 2 * sum(comb(first + second, k) for k in range(min(first, second) + 1)) / 2 ** (first + second)
    assert mcnemar(first, second) == pytest.approx(min(1.0, tail), rel=1e-9)
    assert mcnemar(second, first) == mcnemar(first, second)


@pytest.mark.parametrize(
    ("table", "estimate", "low", "high"),
    [
        # Altman et al., Statistics with Confidence, 2000, table 6.2.
        ((14, 5, 0, 22), 0.122, 0.011, 0.226),
        # Fagerland, Lydersen and Laake, Statistics in Medicine, 2014: the airway data of Bentur et al.
        ((1, 1, 7, 12), -0.286, -0.507, -0.026),
    ],
)
def test_agrees_paired_difference_with_published_examples(table, estimate, low, high):
    assert paired_difference(*table) == pytest.approx((estimate, low, high), abs=5e-4)


def test_agrees_paired_difference_without_correlation_with_the_independent_interval():
    # With phi = 0 the method is Newcombe's for independent samples: the Wilson half-widths, squared and added.
    first, second = wilson(50, 100), wilson(50, 100)
    interval = paired_difference(25, 25, 25, 25)
    half = ((first.estimate - first.low) ** 2 + (second.high - second.estimate) ** 2) ** 0.5
    assert interval == pytest.approx((0, -half, half), abs=1e-12)


@pytest.mark.parametrize("table", [(9, 0, 0, 0), (0, 0, 0, 9), (0, 9, 0, 0), (80, 15, 3, 2), (100, 1, 0, 0)])
def test_invariant_swapping_the_classifiers_mirrors_the_interval(table):
    both, first, second, neither = table
    interval, mirrored = paired_difference(*table), paired_difference(both, second, first, neither)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert -1 - 1e-12 <= interval.low <= interval.estimate <= interval.high <= 1 + 1e-12


def test_invariant_the_interval_holds_its_estimate():
    for total in range(1, 700):
        none, all_right = wilson(0, total), wilson(total, total)
        assert none.low == none.estimate == 0, total
        assert all_right.high == all_right.estimate == 1, total
