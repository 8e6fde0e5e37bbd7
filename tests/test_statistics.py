from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from stl_ray.statistics import auroc, holm, mcnemar, paired, paired_difference, roc_points, wilson

P_VALUES = st.lists(st.floats(0, 1), max_size=12)


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


@pytest.mark.parametrize("total", [1, 7, 100, 10_000])
def test_agrees_wilson_and_mcnemar_with_statsmodels(total):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    for successes in {0, 1, total // 3, total // 2, total}:
        low, high = proportion.proportion_confint(successes, total, method="wilson")
        found = wilson(successes, total)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
        theirs = tables.mcnemar([[5, successes], [total - successes, 9]], exact=True).pvalue
        assert mcnemar(successes, total - successes) == pytest.approx(theirs, rel=1e-9)


def test_identity_holm_by_hand():
    # Sorted: 0.01 x 4, 0.013 x 3 = 0.039 raised to 0.04, 0.03 x 2 = 0.06, 0.9 x 1.
    assert holm([0.03, 0.01, 0.9, 0.013]) == pytest.approx([0.06, 0.04, 0.9, 0.04], rel=1e-12)
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    assert holm([0.6, 0.5]) == [1, 1]


@settings(deadline=None)
@given(P_VALUES)
def test_agrees_holm_with_statsmodels(values):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    theirs = multitest.multipletests(values, method="holm")[1] if values else []
    np.testing.assert_allclose(holm(values), theirs, rtol=1e-12, atol=0)


@settings(deadline=None)
@given(P_VALUES, st.randoms())
def test_invariant_holm_is_monotone_and_the_order_is_nothing_to_it(values, random):
    adjusted = holm(values)
    assert all(p <= by_holm <= min(1, p * max(1, len(values))) for p, by_holm in zip(values, adjusted, strict=True))
    pairs = sorted(zip(values, adjusted, strict=True))
    assert [by_holm for _, by_holm in pairs] == sorted(adjusted)
    order = list(range(len(values)))
    random.shuffle(order)
    assert holm([values[place] for place in order]) == [adjusted[place] for place in order]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_refuses_what_is_no_p_value(value):
    with pytest.raises(ValueError, match="p-values in"):
        holm([0.5, value])


def test_identity_paired_by_hand():
    first = [True] * 6 + [True] * 5 + [False] + [False] * 8
    second = [True] * 6 + [False] * 5 + [True] + [False] * 8
    difference, p = paired(first, second)
    assert difference == paired_difference(both=6, only_first=5, only_second=1, neither=8)
    assert difference.estimate == pytest.approx(4 / 20)
    assert p == mcnemar(5, 1) == pytest.approx(2 * (1 + 6) / 2**6)


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


def drawn(clean: int, attacked: int, apart: float, *, rounded: bool = False, seed: int = 0):
    generator = np.random.default_rng(seed)
    scores = generator.standard_normal(clean), generator.standard_normal(attacked) + apart
    return [score.round(1) for score in scores] if rounded else scores


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("clean", "attacked", "apart"), [(40, 60, 0.5), (7, 3, -1.0), (200, 200, 2.0), (1, 1, 0.0)])
def test_agrees_auroc_with_scikit_learn(clean, attacked, apart, rounded):
    low, high = drawn(clean, attacked, apart, rounded=rounded)
    expected = roc_auc_score([0] * clean + [1] * attacked, np.concatenate([low, high]))
    found = auroc(low, high)
    assert found.estimate == pytest.approx(expected, abs=1e-12)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    mirrored = auroc(high, low)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-9)


@pytest.mark.parametrize("apart", [0.3, 1.0, 1.8])
def test_agrees_auroc_interval_with_a_bootstrap(apart):
    clean, attacked = drawn(300, 300, apart, seed=3)
    found, generator = auroc(clean, attacked), np.random.default_rng(4)
    areas = [auroc(generator.choice(clean, 300), generator.choice(attacked, 300)).estimate for _ in range(2000)]
    low, high = np.quantile(areas, [0.025, 0.975])
    # Of 2000 draws a quantile is uncertain by a twentieth of the width; Hanley and McNeil's model is not the normal one.
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low))


@pytest.mark.parametrize("rounded", [False, True])
def test_agrees_roc_points_with_scikit_learn(rounded):
    clean, attacked = drawn(40, 60, 0.7, rounded=rounded)
    false, true, _ = roc_curve([0] * 40 + [1] * 60, np.concatenate([clean, attacked]), drop_intermediate=False)
    points = roc_points(clean, attacked)
    np.testing.assert_allclose(points, np.stack([false, true], 1), atol=1e-12)
    area = np.trapezoid([y for _, y in points], [x for x, _ in points])
    assert area == pytest.approx(auroc(clean, attacked).estimate)
    few = roc_points(clean, attacked, most=10)
    assert len(few) == 10 and set(few) <= set(points)
    assert (few[0], few[-1]) == ((0, 0), (1, 1))


def test_identity_auroc_of_separated_scores_has_a_width():
    found = auroc([0.0] * 10, [1.0, np.inf] * 5)
    assert (found.estimate, found.high) == (1, 1)
    assert 0.6 < found.low < 1
    assert auroc([0.0] * 1000, [1.0] * 1000).low > 0.99
    assert auroc([1.0] * 5, [1.0] * 5).estimate == 0.5


@pytest.mark.parametrize(("clean", "attacked"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0])])
def test_refuses_auroc_of_what_is_no_score(clean, attacked):
    with pytest.raises(ValueError, match="scores of both kinds"):
        auroc(clean, attacked)
