"""The native core by itself: every instruction set, shapes that the vector loops have to round up, and its certificate."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stl_ray.csc import (
    ACCURACIES,
    Codes,
    Dictionary,
    SolveStatus,
    active_set,
    native,
    operator_of,
    solve_cbpdn,
    split_bands,
)
from stl_ray.csc.codes import Descent
from stl_ray.errors import TensorError

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

EXACT = Descent(1e-5, 1e-5, 5000)


def random_problem(filters: int, channels: int, side: int, size: tuple[int, int]) -> tuple[Tensor, Dictionary]:
    generator = torch.Generator().manual_seed(filters + side)
    weights = torch.randn((filters, channels, side, side), generator=generator)
    unit = weights / weights.flatten(1).norm(dim=1)[:, None, None, None]
    return torch.randn((2, channels, *size), generator=generator) / 3, Dictionary(unit, 0.3)


@pytest.mark.parametrize("name", native.instruction_sets())
def test_instruction_sets_and_admm_agree_to_a_grey_level(
    natural_images: Tensor, dictionary: Dictionary, name: str
) -> None:
    low, high = split_bands(natural_images[:6])
    expected = solve_cbpdn(high, dictionary, 0.2, method="admm", accuracy="exact").synthesis
    found = solve_cbpdn(high, dictionary, 0.2, method=f"active_set/{name}", accuracy="exact").synthesis
    levels = [((low + part).clamp(0, 1) * 255).round() for part in (expected, found)]
    assert ((levels[0] - levels[1]).abs() <= 1).float().mean() >= 0.999


@pytest.mark.parametrize("name", native.instruction_sets())
@pytest.mark.parametrize(
    ("filters", "channels", "side", "size"),
    [(1, 1, 3, (3, 3)), (7, 3, 5, (9, 6)), (130, 3, 8, (8, 19)), (65, 1, 16, (17, 16)), (20, 4, 1, (5, 7))],
)
def test_any_shape_reaches_the_optimum_of_admm(
    name: str, filters: int, channels: int, side: int, size: tuple[int, int]
) -> None:
    s, dictionary = random_problem(filters, channels, side, size)
    codes = active_set.descend(s, dictionary, 0.3, EXACT, None, name)
    expected = solve_cbpdn(s, dictionary, 0.3, method="admm", accuracy="exact")
    assert codes.status.tolist() == [SolveStatus.CONVERGED] * 2
    torch.testing.assert_close(codes.synthesis, expected.synthesis, rtol=0, atol=5e-3)

    def cost(codes: Codes) -> Tensor:
        fit = (s - codes.synthesis).double().square().sum((1, 2, 3)) / 2
        return fit + 0.3 * codes.maps.double().abs().sum((1, 2, 3))

    assert (cost(codes) <= cost(expected) * (1 + 2e-5)).all()


def test_codes_are_sorted_sparse_and_synthesise_what_they_say(highpass: Tensor, dictionary: Dictionary) -> None:
    codes = solve_cbpdn(highpass, dictionary, 0.2, method="active_set")
    coefficients = codes.coefficients
    assert coefficients.is_sparse
    recoalesced = codes.maps.to_sparse()
    assert torch.equal(recoalesced.indices(), coefficients.indices())
    assert (coefficients.values() != 0).all()
    padded = torch.nn.functional.pad(codes.maps.double(), (7, 0, 7, 0), mode="circular")
    image = torch.nn.functional.conv2d(padded, dictionary.filters.double().flip((2, 3)).transpose(0, 1))
    torch.testing.assert_close(codes.synthesis.double(), image, rtol=0, atol=1e-5)


def test_converged_means_that_no_inactive_filter_violates(highpass: Tensor, dictionary: Dictionary) -> None:
    descent = ACCURACIES["default"].descent
    codes = solve_cbpdn(highpass, dictionary, 0.2, method="active_set")
    residual = torch.nn.functional.pad((highpass - codes.synthesis).double(), (0, 7, 0, 7), mode="circular")
    correlations = torch.nn.functional.conv2d(residual, dictionary.filters.double()).abs()
    inactive = correlations.where(codes.maps == 0, 0)
    assert codes.status.unique().tolist() == [SolveStatus.CONVERGED]
    assert inactive.max() <= 0.2 * (1 + descent.violation) + 1e-5
    assert inactive.max() > 0.2  # the tolerance is used


@pytest.mark.parametrize("descent", [ACCURACIES["reference"].descent, Descent(0.01, 0.3, 500)])
@pytest.mark.parametrize("scale", [1, 3**0.5])
def test_a_violator_of_a_small_step_is_not_found_for_ever(
    highpass: Tensor, dictionary: Dictionary, descent: Descent, scale: float
) -> None:
    # Filters of norm sqrt(3), as per-channel ones have, take steps a third as long in the coefficient.
    packed = Dictionary(dictionary.filters, dictionary.lmbda)
    object.__setattr__(packed, "filters", dictionary.filters * scale)
    codes = active_set.descend(highpass, packed, 0.2 * scale, descent, None)
    assert codes.status.unique().tolist() == [SolveStatus.CONVERGED]
    assert codes.iterations.max() < 100


def test_overflow_is_not_called_converged(highpass: Tensor, dictionary: Dictionary) -> None:
    signal = torch.cat([highpass[:1] * 3e38 / highpass[:1].abs().max(), highpass[1:2]])
    codes = solve_cbpdn(signal, dictionary, 0.2, method="active_set")
    assert codes.status[0] != SolveStatus.CONVERGED
    assert codes.status[1] == SolveStatus.CONVERGED
    alone = solve_cbpdn(signal[1:], dictionary, 0.2, method="active_set")
    assert torch.equal(codes.synthesis[1:], alone.synthesis)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(3, 16), st.integers(0, 40), st.integers(0, 40), st.sampled_from([1, 3]), st.integers(1, 128),
    st.integers(0, 99),
)  # fmt: skip
def test_no_violator_is_left_at_any_shape(
    side: int, more_rows: int, more_columns: int, channels: int, filters: int, seed: int
) -> None:
    check_shape(filters, channels, side, (side + more_rows, side + more_columns), seed)


@pytest.mark.parametrize("size", [(224, 225), (129, 8)])
def test_no_violator_is_left_at_large_sizes(size: tuple[int, int]) -> None:
    check_shape(64, 3, 8, size, 0)


def check_shape(filters: int, channels: int, side: int, size: tuple[int, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn((filters, channels, side, side), generator=generator)
    dictionary = Dictionary(weights / weights.flatten(1).norm(dim=1)[:, None, None, None], 0.2)
    # Smooth noise with some flat ground, of the contrast of a high band.
    s = torch.nn.functional.avg_pool2d(torch.randn((1, channels, *size), generator=generator), 3, 1, 1)
    s = 0.4 * s * (torch.rand((1, 1, *size), generator=generator) < 0.9)
    codes = solve_cbpdn(s, dictionary, 0.2, method="active_set")
    operator = operator_of(dictionary, *size, torch.float64, s.device)
    residual = s.double() - operator.forward(codes.maps.double())
    violation = operator.adjoint(residual).abs().where(codes.maps == 0, 0).max()
    assert codes.status.tolist() == [SolveStatus.CONVERGED]
    assert violation <= 0.2 * (1 + ACCURACIES["default"].descent.violation) + 1e-5
    torch.testing.assert_close(codes.synthesis.double(), s.double() - residual, rtol=0, atol=1e-5)


def test_iterations_that_run_out_are_said(highpass: Tensor, dictionary: Dictionary) -> None:
    codes = active_set.descend(highpass[:4], dictionary, 0.2, Descent(1e-3, 1e-3, 3), None)
    assert codes.status.tolist() == [SolveStatus.MAX_ITERATIONS] * 4
    assert codes.iterations.tolist() == [3] * 4


def test_warm_starts_reach_the_same_optimum_sooner(highpass: Tensor, dictionary: Dictionary) -> None:
    cold = solve_cbpdn(highpass, dictionary, 0.2, method="active_set", accuracy="reference")
    nearby = highpass + 1e-3 * torch.randn(highpass.shape, generator=torch.Generator().manual_seed(0))
    start = active_set.descend(nearby, dictionary, 0.2, ACCURACIES["reference"].descent, cold.coefficients)
    expected = active_set.descend(nearby, dictionary, 0.2, EXACT, None)
    assert start.iterations.double().mean() < cold.iterations.double().mean()
    error = (start.synthesis - expected.synthesis).flatten(1).norm(dim=1)
    assert (error <= 0.05 * expected.synthesis.flatten(1).norm(dim=1)).all()
    # A start that is the solution is left as it is.
    again = active_set.descend(nearby, dictionary, 0.2, ACCURACIES["default"].descent, expected.coefficients)
    assert again.iterations.max() <= 2


def test_admm_finishes_what_single_precision_cannot_certify(
    highpass: Tensor, dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active_set, "TIGHTEST", 1.0)  # no tightening: the first try is the last
    codes = solve_cbpdn(highpass[:3], dictionary, 0.2, method="active_set", accuracy="exact")
    assert codes.gap.max() <= 1e-5
    assert codes.status.unique().tolist() == [SolveStatus.CONVERGED]
    assert codes.coefficients.is_sparse


def test_invariant_an_image_is_tightened_as_often_as_it_needs_itself(highpass: Tensor, dictionary: Dictionary) -> None:
    """From tolerances so loose that images need different numbers of tries."""
    accuracy = replace(ACCURACIES["exact"], descent=Descent(0.3, 0.3, 5000))
    signal = torch.cat([highpass[:4], highpass[4:6] / 20])
    together = solve_cbpdn(signal, dictionary, 0.2, method="active_set", accuracy=accuracy)
    alone = Codes.cat(
        [solve_cbpdn(image[None], dictionary, 0.2, method="active_set", accuracy=accuracy) for image in signal]
    )
    assert len(together.iterations.unique()) > 1
    assert together.gap.max() <= 1e-5
    assert torch.equal(together.iterations, alone.iterations)
    assert torch.equal(together.maps, alone.maps)


def test_bad_arguments_are_refused(highpass: Tensor, dictionary: Dictionary) -> None:
    with pytest.raises(TensorError, match=r"float32 on a CPU.*float64"):
        solve_cbpdn(highpass.double(), dictionary, 0.2, method="active_set")
    from stl_ray.csc import _native

    packed = _native.Dictionary(dictionary.filters.numpy())
    outside = (np.array([0, 1]), *(np.array([n], np.int32) for n in (0, 32, 0)), np.ones(1, np.float32))
    with pytest.raises(ValueError, match="outside of the image"):
        _native.solve(
            packed, highpass[:1].numpy(), lmbda=0.2, violation=0.1, change=0.1, max_iterations=9, start=outside
        )
    with pytest.raises(ValueError, match="smaller than the filters"):
        _native.solve(
            packed, highpass[:1, :, :7].numpy().copy(), lmbda=0.2, violation=0.1, change=0.1, max_iterations=9
        )
    with pytest.raises(ValueError, match="no instruction set sse9"):
        _native.Dictionary(dictionary.filters.numpy(), "sse9")
