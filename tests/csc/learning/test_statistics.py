from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Codes, Dictionary, active_set, solve_cbpdn
from stl_ray.csc.certificate import objective
from stl_ray.csc.learning.statistics import CodeStatistics
from stl_ray.csc.learning.sums import total
from stl_ray.csc.operator import ConvolutionOperator

SIZES = [(32, 32), (15, 16), (14, 15), (12, 32), (11, 9), (8, 8)]
"""Around 2 S - 1 = 15 for filters of 8, from which on no lag leads round the torus."""


def in_double(codes: Codes) -> Codes:
    return replace(codes, coefficients=codes.maps.double(), synthesis=codes.synthesis.double())


def codes_of(signal: Tensor, dictionary: Dictionary) -> Codes:
    """In double precision."""
    return in_double(solve_cbpdn(signal.float(), dictionary, 0.2))


def random_filters(count: int = 24) -> Tensor:
    return torch.randn((count, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.usefixtures("needs_native")
@pytest.mark.parametrize("size", SIZES)
def test_agrees_native_with_spectra(highpass: Tensor, dictionary: Dictionary, size: tuple[int, int]) -> None:
    signal = highpass[:5, :, : size[0], : size[1]].contiguous()
    codes = solve_cbpdn(signal, dictionary, 0.2, method="active_set")
    assert codes.coefficients.is_sparse
    ours = CodeStatistics.of(codes, signal, 8).tensors()
    for name, expected in CodeStatistics.of(in_double(codes), signal.double(), 8).tensors().items():
        assert ours[name].shape == expected.shape
        # float32 sums, next to the largest: 1e-6 was measured.
        assert (ours[name] - expected).abs().max() <= 1e-5 * expected.abs().max(), name


@pytest.mark.parametrize("size", SIZES)
def test_agrees_with_the_objective_by_definition(
    dictionary: Dictionary, highpass: Tensor, size: tuple[int, int]
) -> None:
    signal = highpass[:5, :, : size[0], : size[1]].double()
    codes = codes_of(signal, dictionary)
    statistics = CodeStatistics.of(codes, signal, 8)
    for filters in (dictionary.filters.double(), random_filters()):
        expected = objective(codes.maps, signal, ConvolutionOperator(filters, *size), 0.2).mean()
        assert statistics.objective(filters, 0.2) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("size", [(32, 32), (11, 9)])
def test_identity_gradient_of_the_objective(dictionary: Dictionary, highpass: Tensor, size: tuple[int, int]) -> None:
    signal = highpass[:8, :, : size[0], : size[1]].double()
    codes = codes_of(signal, dictionary)
    filters = random_filters().requires_grad_()
    objective(codes.maps, signal, ConvolutionOperator(filters, *size), 0.2).sum().backward()
    statistics = CodeStatistics.of(codes, signal, 8)
    gradient = statistics.curved(filters.detach()) - statistics.cross
    torch.testing.assert_close(gradient, filters.grad, rtol=1e-9, atol=1e-9)


def test_identity_of_the_sums(codes: Codes, highpass: Tensor) -> None:
    maps, signal = codes.maps.double(), highpass[:8].double()
    statistics = CodeStatistics.of(codes, highpass[:8], 8)
    torch.testing.assert_close(statistics.usage.double(), maps.square().sum((0, 2, 3)), rtol=1e-5, atol=0)
    torch.testing.assert_close(statistics.energy, signal.square().sum())
    torch.testing.assert_close(statistics.l1, maps.abs().sum())
    assert statistics.images == 8


def test_identity_joined_statistics_are_a_weighted_mean_over_sizes(highpass: Tensor, dictionary: Dictionary) -> None:
    parts = []
    for images, size in ((slice(0, 3), (32, 32)), (slice(3, 8), (11, 30))):
        signal = highpass[images, :, : size[0], : size[1]].double()
        parts.append(CodeStatistics.of(codes_of(signal, dictionary), signal, 8))
    joined = parts[0].joined(parts[1], 0.5)
    for filters in (dictionary.filters.double(), random_filters()):
        values = [part.objective(filters, 0.2) for part in parts]
        expected = (3 * values[0] + 2.5 * values[1]) / 5.5
        assert joined.objective(filters, 0.2) == pytest.approx(expected, rel=1e-9)


def test_invariant_images_that_no_filter_codes(highpass: Tensor, dictionary: Dictionary) -> None:
    codes = solve_cbpdn(0 * highpass[:2], dictionary, 0.2)
    statistics = CodeStatistics.of(codes, highpass[:2], 8)
    assert not any(statistics.tensors()[name].any() for name in ("gram", "cross", "usage", "l1"))
    energy = highpass[:2].double().square().sum()
    assert statistics.objective(dictionary.filters, 0.2) == pytest.approx(float(energy) / 4)


@pytest.mark.parametrize("dense", [False, True])
def test_invariant_under_threads(
    highpass: Tensor, dictionary: Dictionary, dense: bool, threads: Callable[[int], None]
) -> None:
    """Also for the sums of more numbers than one thread adds alone."""
    signal = highpass.repeat(3, 1, 1, 1)
    codes = solve_cbpdn(signal, dictionary, 0.2)
    codes = replace(codes, coefficients=codes.maps) if dense else codes
    found = []
    for count in (1, 2):
        threads(count)
        found.append(CodeStatistics.of(codes, signal, 8).tensors())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_identity_total(threads: Callable[[int], None]) -> None:
    numbers = torch.randn(100_003, generator=torch.Generator().manual_seed(0))
    sums = []
    for count in (1, 2):
        threads(count)
        sums.append(total(numbers))
    assert torch.equal(*sums)
    torch.testing.assert_close(sums[0], numbers.double().sum())
    assert total(numbers[:0]) == 0


@pytest.mark.usefixtures("needs_native")
def test_refuses_coefficients_outside_of_their_maps(highpass: Tensor) -> None:
    one = torch.zeros(1, 5, 8, 8)
    one[0, 4, 3, 2] = 1
    inside = one.to_sparse()
    active_set.correlations(inside, highpass[:1, :, :8, :8], 8)
    for height, width in ((3, 8), (8, 2)):
        with pytest.raises(ValueError, match="outside its map"):
            active_set.correlations(inside, highpass[:1, :, :height, :width], 8)
    with pytest.raises(ValueError, match="do not fit"):
        active_set.correlations(inside, highpass[:2, :, :8, :8], 8)
