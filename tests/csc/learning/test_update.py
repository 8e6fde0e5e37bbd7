from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Codes, Dictionary
from stl_ray.csc.learning import update
from stl_ray.csc.learning.constraint import ConstraintSet
from stl_ray.csc.learning.statistics import CodeStatistics
from stl_ray.csc.learning.update import _curvature, local_filters, update_filters, weights_of
from stl_ray.errors import TensorError


@pytest.fixture(scope="module")
def statistics(codes: Codes, highpass: Tensor) -> CodeStatistics:
    return CodeStatistics.of(codes, highpass[:8], 8)


def without(codes: Codes, highpass: Tensor, unused: int) -> CodeStatistics:
    """Statistics of codes from which one filter is missing."""
    maps = codes.maps.clone()
    maps[:, unused] = 0
    return CodeStatistics.of(replace(codes, coefficients=maps), highpass[:8], 8)


def random_statistics(filters: int, channels: int, side: int) -> CodeStatistics:
    """Of random sparse codes of noise, in double precision; positive, so that constant filters are the most curved."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand((2, filters, 9, 11), generator=generator, dtype=torch.float64)
    maps *= torch.rand(maps.shape, generator=generator) < 0.1
    images = torch.randn((2, channels, 9, 11), generator=generator, dtype=torch.float64)
    codes = Codes(maps, images, *(torch.zeros(2, dtype=torch.int64) for _ in range(3)))
    return CodeStatistics.of(codes, images, side)


def hessian(statistics: CodeStatistics, shape: tuple[int, ...]) -> Tensor:
    """A as a matrix over all entries of the filters."""
    units = torch.eye(shape[0] * shape[1] * shape[2] * shape[3], dtype=torch.float64).view(-1, *shape)
    return torch.stack([statistics.curved(unit).flatten() for unit in units])


@pytest.mark.parametrize("norm", ["joint", "per_channel"])
@pytest.mark.parametrize("zero_mean", [True, False])
def test_certificate_update_lowers_the_objective_within_the_set(
    dictionary: Dictionary, statistics: CodeStatistics, norm, zero_mean: bool, assert_in_the_set
) -> None:
    constraint = ConstraintSet(norm, zero_mean)
    filters = constraint.project(dictionary.filters)
    values = [statistics.objective(filters, 0.2)]
    for _ in range(4):
        filters = update_filters(filters, statistics, constraint)
        assert_in_the_set(filters, constraint)
        values.append(statistics.objective(filters, 0.2))
    assert values[1] < 0.99 * values[0]
    # Ten steps leave little to be found, and what follows never loses more than rounding.
    assert all(after < before * (1 + 1e-6) for before, after in pairwise(values))
    assert values[0] - values[1] > 0.9 * (values[0] - values[-1])


def test_certificate_one_filter_becomes_stationary() -> None:
    statistics = random_statistics(1, 1, 3)
    constraint = ConstraintSet(zero_mean=False)
    filters = constraint.project(torch.randn((1, 1, 3, 3), generator=torch.Generator().manual_seed(1)).double())
    for _ in range(20):
        filters = update_filters(filters, statistics, constraint)
    # On the sphere: the gradient is parallel to the filter.
    gradient = statistics.curved(filters) - statistics.cross
    tangential = gradient - (gradient * filters).sum() * filters
    assert tangential.norm() < 1e-6 * gradient.norm()


@pytest.mark.parametrize("zero_mean", [True, False])
def test_agrees_with_the_largest_curvature(zero_mean: bool) -> None:
    """Of Q in units of the weights, among filters of zero mean where the set asks for them."""
    statistics, shape, constraint = random_statistics(4, 2, 3), (4, 2, 3, 3), ConstraintSet(zero_mean=zero_mean)
    weights = weights_of(statistics.usage)
    units = torch.eye(72, dtype=torch.float64).view(-1, *shape)
    centred = torch.stack([constraint.centre(unit).flatten() for unit in units])
    root = weights.expand(shape).sqrt().flatten()
    scaled = centred @ (hessian(statistics, shape) / root / root[:, None]) @ centred
    largest = float(torch.linalg.eigvalsh(scaled)[-1])
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = _curvature(constraint.project(start), statistics, constraint, weights)
    # From below. Codes of noise have several directions of nearly that curvature; natural ones come within 5 %.
    assert 0.9 * largest < found < largest * (1 + 1e-9)


@pytest.mark.parametrize(("filters", "channels", "side"), [(1, 1, 2), (1, 3, 2), (5, 1, 2), (4, 2, 3)])
def test_invariant_small_problems_stay_in_the_set(filters: int, channels: int, side: int, assert_in_the_set) -> None:
    statistics = random_statistics(filters, channels, side)
    start = torch.randn((filters, channels, side, side), generator=torch.Generator().manual_seed(1)).double()
    for constraint in (ConstraintSet(), ConstraintSet("per_channel", False)):
        before = constraint.project(start)
        after = update_filters(before, statistics, constraint)
        assert_in_the_set(after, constraint)
        assert statistics.objective(after, 0.2) <= statistics.objective(before, 0.2) * (1 + 1e-9)


def test_invariant_a_filter_that_no_code_uses_stays(dictionary: Dictionary, highpass: Tensor, codes: Codes) -> None:
    statistics = without(codes, highpass, unused=5)
    updated = update_filters(dictionary.filters, statistics, ConstraintSet())
    torch.testing.assert_close(updated[5], dictionary.filters[5])
    penalty = 2 * weights_of(statistics.usage)
    local = local_filters(statistics, updated, dictionary.filters, penalty)
    torch.testing.assert_close(local[5], dictionary.filters[5], rtol=1e-3, atol=1e-4)


def test_identity_block_filters_solve_their_normal_equations() -> None:
    statistics, shape = random_statistics(4, 2, 3), (4, 2, 3, 3)
    generator = torch.Generator().manual_seed(1)
    start, target = torch.randn((2, *shape), generator=generator, dtype=torch.float64)
    penalty = statistics.usage.mean() * torch.tensor([0.5, 1, 2, 4]).double()[:, None, None, None]
    found = local_filters(statistics, start, target, penalty)
    matrix = hessian(statistics, shape) + torch.diag(penalty.expand(shape).flatten())
    right = (statistics.cross + penalty * target).flatten()
    assert (matrix @ found.flatten() - right).norm() <= 1.001e-3 * right.norm()
    exact = torch.linalg.solve(matrix, right).view(shape)
    torch.testing.assert_close(found, exact, rtol=0, atol=5e-3 * float(exact.abs().max()))
    assert torch.equal(local_filters(statistics, exact, target, penalty), exact)  # nothing left to do


def test_identity_block_filters_of_natural_codes(
    dictionary: Dictionary, statistics: CodeStatistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In single precision, with filters of very different use: the residual that was asked for, after a few steps."""
    monkeypatch.setattr(update, "CONJUGATE_STEPS", 12)
    penalty = 2 * weights_of(statistics.usage)
    target = dictionary.filters
    found = local_filters(statistics, target, target, penalty)
    right = statistics.cross + penalty * target
    assert (statistics.curved(found) + penalty * found - right).norm() <= 1.1e-3 * right.norm()


def test_invariant_under_threads(threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """With filters of more numbers than one thread adds alone; a few steps show it, in double precision."""
    for steps in ("STEPS", "POWER_STEPS", "CONJUGATE_STEPS"):
        monkeypatch.setattr(update, steps, 3)
    statistics = random_statistics(176, 3, 8)
    penalty, found = 2 * weights_of(statistics.usage), []
    filters = torch.randn((176, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for count in (1, 2):
        threads(count)
        updated = update_filters(ConstraintSet().project(filters), statistics, ConstraintSet())
        found.append((updated, local_filters(statistics, updated, filters, penalty)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_identity_weights_keep_away_from_zero() -> None:
    usage = torch.tensor([0.0, 1.0, 2.0, 1.0])
    assert weights_of(usage).flatten().tolist() == pytest.approx([1e-3, 1.0, 2.0, 1.0])


@pytest.mark.parametrize("usage", [0.0, float("nan")])
def test_refuses_codes_that_use_no_filter(usage: float) -> None:
    with pytest.raises(TensorError, match="survives lambda"):
        weights_of(torch.full((4,), usage))
