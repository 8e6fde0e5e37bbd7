import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, solve_cbpdn
from stl_ray.csc.certificate import objective
from stl_ray.csc.learning.filters import CodeStatistics, constrain, initial_filters, update_filters
from stl_ray.csc.operator import ConvolutionOperator
from stl_ray.errors import TensorError


@pytest.fixture(scope="module")
def codes(highpass: Tensor, dictionary: Dictionary) -> Tensor:
    return solve_cbpdn(highpass[:8], dictionary, 0.2).maps


def assert_in_the_constraint_set(filters: Tensor) -> None:
    torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(len(filters)))
    assert filters.mean((2, 3)).abs().max() < 1e-6


@pytest.mark.parametrize("size", [(32, 32), (12, 32), (11, 9)])
def test_agrees_with_the_objective_by_definition(
    dictionary: Dictionary, highpass: Tensor, size: tuple[int, int]
) -> None:
    signal = highpass[:5, :, : size[0], : size[1]].double()
    maps = solve_cbpdn(signal, dictionary, 0.2).maps
    statistics = CodeStatistics.of(maps, signal, 8)
    for filters in (dictionary.filters.double(), torch.randn((24, 3, 8, 8), dtype=torch.float64)):
        expected = objective(maps, signal, ConvolutionOperator(filters, *size), 0.2).mean()
        assert statistics.objective(filters, 0.2) == pytest.approx(float(expected), rel=1e-9)


def test_identity_gradient_of_the_objective(dictionary: Dictionary, highpass: Tensor, codes: Tensor) -> None:
    signal, maps = highpass[:8].double(), codes.double()
    filters = dictionary.filters.double().requires_grad_()
    objective(maps, signal, ConvolutionOperator(filters, 32, 32), 0.2).sum().backward()
    statistics = CodeStatistics.of(maps, signal, 8)
    gradient = statistics.curved(filters.detach()) - statistics.linear(8)
    torch.testing.assert_close(gradient, filters.grad, rtol=1e-9, atol=1e-9)


def test_identity_joined_statistics_are_a_weighted_mean(
    highpass: Tensor, codes: Tensor, dictionary: Dictionary
) -> None:
    parts = [CodeStatistics.of(codes[s].double(), highpass[:8][s].double(), 8) for s in (slice(0, 3), slice(3, 8))]
    joined = parts[0].joined(parts[1], 0.5)
    values = [part.objective(dictionary.filters.double(), 0.2) for part in parts]
    expected = (3 * values[0] + 2.5 * values[1]) / 5.5
    assert joined.objective(dictionary.filters.double(), 0.2) == pytest.approx(expected, rel=1e-9)


def test_certificate_update_lowers_the_objective_within_the_set(
    dictionary: Dictionary, highpass: Tensor, codes: Tensor
) -> None:
    statistics = CodeStatistics.of(codes, highpass[:8], 8)
    updated = update_filters(dictionary.filters, statistics)
    assert_in_the_constraint_set(updated)
    before, after = (statistics.objective(filters, 0.2) for filters in (dictionary.filters, updated))
    again = statistics.objective(update_filters(updated, statistics), 0.2)
    assert again <= after < before * 0.99


def test_invariant_a_filter_that_no_code_uses_stays(dictionary: Dictionary, highpass: Tensor, codes: Tensor) -> None:
    unused = codes.clone()
    unused[:, 5] = 0
    updated = update_filters(dictionary.filters, CodeStatistics.of(unused, highpass[:8], 8))
    torch.testing.assert_close(updated[5], dictionary.filters[5])


def test_identity_constraint_projection() -> None:
    filters = torch.randn((7, 3, 5, 5), generator=torch.Generator().manual_seed(0))
    projected = constrain(filters)
    assert_in_the_constraint_set(projected)
    torch.testing.assert_close(constrain(projected), projected)
    # No nearby member of the set is nearer.
    for seed in range(5):
        other = constrain(projected + 0.1 * torch.randn(filters.shape, generator=torch.Generator().manual_seed(seed)))
        assert ((filters - projected).flatten(1).norm(dim=1) <= (filters - other).flatten(1).norm(dim=1)).all()


def test_certificate_initial_filters_are_patches_of_the_images(highpass: Tensor) -> None:
    filters = initial_filters(highpass, 12, 8, torch.Generator().manual_seed(0))
    assert_in_the_constraint_set(filters)
    patches = highpass.unfold(2, 8, 1).unfold(3, 8, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    similarity = filters.flatten(1) @ constrain(patches).flatten(1).T
    assert (similarity.amax(1) > 0.9999).all()


def test_refuses_flat_images() -> None:
    flat = torch.zeros(4, 3, 16, 16)
    flat[0, :, 0, 0] = 1
    with pytest.raises(TensorError, match="flat"):
        initial_filters(flat, 64, 8, torch.Generator().manual_seed(0))
