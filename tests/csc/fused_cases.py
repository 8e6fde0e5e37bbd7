"""What is asked of the fused method, on a CUDA device or, under Triton's interpreter, on the CPU at small sizes.

`test_fused.py` runs this file in processes of its own: the interpreter is chosen when triton is first imported. What takes
the interpreter seconds is marked `faults`.
"""

import math
import os

import pytest
import torch
from torch import Tensor

from stl_ray.csc import (
    ACCURACIES,
    Accuracy,
    Codes,
    Dictionary,
    SolveStatus,
    Splitting,
    fused,
    operator_of,
    solve_cbpdn,
)
from stl_ray.csc.certificate import duality_gap
from stl_ray.csc.fused import forms, image_kernels, map_kernels
from stl_ray.csc.prox import clip, soft_threshold

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
LMBDA = 0.2

# (B, K, C, S, H, W): odd sizes, every number of channels, an image no larger than the filters, and more filters than
# one block takes; on a GPU the sizes that the method is meant for as well.
SHAPES = [(2, 5, 3, 3, 12, 10), (1, 16, 1, 4, 9, 13), (1, 7, 2, 5, 16, 16), (1, 4, 4, 6, 6, 6), (1, 70, 1, 3, 7, 5)]
# The problem that is solved whole.
SOLVED = (3, 5, 3, 3, 12, 10)
DESCENT = ACCURACIES["default"].descent
LOOSE = Accuracy(Splitting(30, 0.5, 5e-2, 40), DESCENT)
TF32 = 2e-3  # of a float32 product on a GPU, relative to its largest value; the interpreter does not round
if not INTERPRETED:
    SHAPES += [(3, 64, 3, 8, side, side) for side in (32, 64, 128, 224)] + [(2, 100, 3, 16, 225, 33)]


def random_problem(shape: tuple[int, ...]) -> tuple[Tensor, Dictionary]:
    images, count, channels, side, height, width = shape
    generator = torch.Generator().manual_seed(sum(shape))
    filters = torch.randn((count, channels, side, side), generator=generator)
    filters /= filters.flatten(1).norm(dim=1)[:, None, None, None]
    signal = torch.randn((images, channels, height, width), generator=generator) / 3
    signal *= torch.linspace(1, 0.4, images)[:, None, None, None]
    return signal.to(DEVICE), Dictionary(filters, LMBDA)


def random_state(signal: Tensor, dictionary: Dictionary) -> Tensor:
    """(B, K, H, W), of the size of a threshold of 0.1."""
    shape = (signal.shape[0], len(dictionary.filters), *signal.shape[2:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(DEVICE) / 10


def last(maps: Tensor, dictionary: Dictionary) -> Tensor:
    """(B, K, H, W) -> (B, H W, K')."""
    padding = map_kernels.padded_filters(len(dictionary.filters)) - maps.shape[1]
    return torch.nn.functional.pad(maps.flatten(2).transpose(1, 2), (0, padding)).contiguous()


def put_together(norms: Tensor) -> Tensor:
    return torch.stack([norms[..., 0].amax(1), *norms[..., 1:].sum(1).unbind(1)], dim=1)


def expected_norms(residual: Tensor, y: Tensor) -> Tensor:
    squares = [maps.double().square().sum((1, 2, 3)).float() for maps in (residual, y)]
    return torch.stack([residual.abs().amax((1, 2, 3)), *squares], dim=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_update_is_the_pointwise_part_of_an_iteration(shape: tuple[int, ...]) -> None:
    signal, dictionary = random_problem(shape)
    p = random_state(signal, dictionary)
    x = torch.randn_like(p) / 10
    u = clip(p, 0.1)
    following = p + 1.9 * (x - u)
    v, out = x.clone(), torch.full_like(p, torch.nan)
    norms = map_kernels.update(p, v, out, torch.full((len(p),), 1.9, device=DEVICE), 0.1)
    torch.testing.assert_close(out, following)
    torch.testing.assert_close(v, following - 2 * clip(following, 0.1))
    torch.testing.assert_close(put_together(norms), expected_norms(x - u, p - u))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_correlation_is_the_adjoint_and_updates_p(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    signal, dictionary = random_problem(shape)
    filters = dictionary.filters.to(DEVICE)
    operator = operator_of(dictionary, *shape[4:], torch.float32, DEVICE)
    p, x = random_state(signal, dictionary), operator.adjoint(signal)
    u = clip(p, 0.1)
    following = p + 1.9 * (x - u)
    before = last(p, dictionary)
    after, y = torch.full_like(before, torch.nan), torch.full_like(before, torch.nan, dtype=dtype)
    norms = map_kernels.correlate_and_update(
        signal, map_kernels.by_taps(filters, dtype), shape[3], before, after, y,
        torch.full((len(p),), 1.9, device=DEVICE), 0.1,
    )  # fmt: skip
    rounding = 1e-5 if dtype == torch.float32 and INTERPRETED else 2 * TF32
    torch.testing.assert_close(after, last(following, dictionary), rtol=rounding, atol=rounding)
    torch.testing.assert_close(y.float(), soft_threshold(after, 0.1), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(put_together(norms), expected_norms(x - u, p - u), rtol=5 * rounding, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_collected_are_the_synthesis(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    signal, dictionary = random_problem(shape)
    images, _, channels, side, height, width = shape
    maps = random_state(signal, dictionary)
    b = operator_of(dictionary, height, width, torch.float32, DEVICE).forward(maps)
    columns = map_kernels.by_columns(dictionary.filters.to(DEVICE), dtype)
    rows = torch.full((images, side * channels, height * width), torch.nan, device=DEVICE)
    relaxations = torch.full((images,), 1.9, device=DEVICE)
    y = last(maps, dictionary).to(dtype)
    precision = "tf32x3" if dtype == torch.float32 else "tf32"
    map_kernels.synthesize_rows(y, columns, channels, width, rows, relaxations, precision)
    tracked, w = torch.rand_like(signal), torch.rand_like(signal)
    carried, rhs = tracked.clone(), torch.full_like(signal, torch.nan)
    image_kernels.collect(rows, signal, w, carried, rhs, relaxations, 6.0)
    of_p = tracked - 1.9 * 6 * w
    rounding = 1e-5 if dtype == torch.float32 else 2 * TF32
    torch.testing.assert_close(rhs, signal - 2 * b + of_p, rtol=rounding, atol=10 * rounding)
    torch.testing.assert_close(carried, of_p + 1.9 * (signal - b), rtol=rounding, atol=10 * rounding)


@pytest.mark.parametrize("shape", SHAPES)
def test_solve_frequencies_is_that_of_the_operator(shape: tuple[int, ...]) -> None:
    signal, dictionary = random_problem(shape)
    operator = operator_of(dictionary, *shape[4:], torch.float32, DEVICE)
    plan = forms._plan(dictionary, *shape[4:], 6.0, DEVICE, torch.float16)
    bf = operator.transform(signal)
    ours = image_kernels.solve_frequencies(bf, plan.inverse, torch.ones(len(signal), device=DEVICE))
    torch.testing.assert_close(ours, operator.solve(6.0, bf), rtol=1e-5, atol=1e-5)


def test_images_at_rest_are_left_alone() -> None:
    signal, dictionary = random_problem(SOLVED)
    filters = dictionary.filters.to(DEVICE)
    before = last(random_state(signal, dictionary), dictionary)
    after, y = torch.zeros_like(before), torch.zeros_like(before)
    relaxations = torch.tensor([0, 1.9, 0], device=DEVICE)
    taps, columns = map_kernels.by_taps(filters, torch.float32), map_kernels.by_columns(filters, y.dtype)
    map_kernels.correlate_and_update(signal, taps, 3, before, after, y, relaxations, 0.1)
    rows = torch.zeros((3, 9, 120), device=DEVICE)
    map_kernels.synthesize_rows(before, columns, 3, 10, rows, relaxations)
    x, out = torch.ones_like(before), torch.zeros_like(before)
    map_kernels.update(before, x, out, relaxations, 0.1)
    for written in (after, y, rows, out, x - 1):
        assert (written[::2] == 0).all()
        assert (written[1] != 0).any()


def same(left: Codes, right: Codes, index: int | Tensor) -> None:
    """The same bytes: all of `left` against `index` of `right`."""
    for field in ("maps", "synthesis", "status", "iterations"):
        assert torch.equal(getattr(left, field), getattr(right, field)[index])


@pytest.mark.parametrize("form", ["pointwise", "spatial"])
def test_solves_as_admm_does(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spatial form with operands in float32, so that nothing but the order of sums differs."""
    signal, dictionary = random_problem(SOLVED)
    monkeypatch.setattr(forms.Spatial, "operands", torch.float32)
    ours = fused.solve_in_form(form, signal, dictionary, LMBDA, LOOSE, None)
    theirs = solve_cbpdn(signal, dictionary, LMBDA, method="admm", accuracy=LOOSE)
    assert len(theirs.iterations.unique()) > 1
    assert (theirs.status == SolveStatus.CONVERGED).all()
    assert torch.equal(ours.status, theirs.status)
    assert torch.equal(ours.iterations, theirs.iterations)
    tolerance = 1e-4 if INTERPRETED or form == "pointwise" else 5e-3
    torch.testing.assert_close(ours.maps, theirs.maps, rtol=0, atol=tolerance)
    torch.testing.assert_close(ours.synthesis, theirs.synthesis, rtol=0, atol=tolerance)
    assert ours.gap.isnan().all()


@pytest.mark.faults
@pytest.mark.parametrize("form", ["spatial", "spatial-half"])
def test_rounded_operands_solve_the_same_problem(form: str) -> None:
    signal, dictionary = random_problem(SOLVED)
    exact = solve_cbpdn(signal, dictionary, LMBDA, method="admm", accuracy="exact").synthesis
    codes = fused.solve_in_form(form, signal, dictionary, LMBDA, LOOSE, None)
    theirs = solve_cbpdn(signal, dictionary, LMBDA, method="admm", accuracy=LOOSE)
    assert (codes.status == SolveStatus.CONVERGED).all()
    assert (codes.iterations - theirs.iterations).abs().max() <= 2
    ours, reference = ((of - exact).flatten(1).norm(dim=1) for of in (codes.synthesis, theirs.synthesis))
    assert (ours <= 1.3 * reference + 2e-3 * exact.flatten(1).norm(dim=1)).all()
    synthesis = operator_of(dictionary, *SOLVED[4:], torch.float32, DEVICE).forward(codes.maps)
    torch.testing.assert_close(codes.synthesis, synthesis, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["pointwise", pytest.param("spatial", marks=pytest.mark.faults)])
def test_invariant_alone_in_a_batch_and_shuffled(form: str) -> None:
    signal, dictionary = random_problem(SOLVED)
    together = fused.solve_in_form(form, signal, dictionary, LMBDA, LOOSE, None)
    order = torch.tensor([2, 0, 1], device=DEVICE)
    same(fused.solve_in_form(form, signal[order], dictionary, LMBDA, LOOSE, None), together, order)
    same(fused.solve_in_form(form, signal[1:2], dictionary, LMBDA, LOOSE, None), together, slice(1, 2))


@pytest.mark.faults
def test_invariant_a_warm_start_ends_at_the_same_place_sooner() -> None:
    signal, dictionary = random_problem(SOLVED)
    accuracy = Accuracy(Splitting(30, 0.2, 1e-2, 60), DESCENT)
    cold = fused.solve(signal, dictionary, LMBDA, accuracy, None)
    start = solve_cbpdn(signal * 1.01, dictionary, LMBDA, method="admm", accuracy="reference").sparse().coefficients
    warm = fused.solve(signal, dictionary, LMBDA, accuracy, start)
    assert (warm.iterations < 0.8 * cold.iterations).all()
    exact = solve_cbpdn(signal, dictionary, LMBDA, method="admm", accuracy="exact").synthesis
    ours, reference = ((of - exact).flatten(1).norm(dim=1) for of in (warm.synthesis, cold.synthesis))
    assert (ours <= reference.maximum(0.02 * exact.flatten(1).norm(dim=1))).all()


@pytest.mark.parametrize("admm_finishes", [pytest.param(False, marks=pytest.mark.faults), True])
def test_exact_tier_holds_the_duality_gap(admm_finishes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    signal, dictionary = random_problem(SOLVED)
    if admm_finishes:
        monkeypatch.setattr(fused.solver, "FLOAT32_ITERATIONS", 10)
    codes = solve_cbpdn(signal, dictionary, LMBDA, method="fused", accuracy="exact")
    operator = operator_of(dictionary, *SOLVED[4:], torch.float64, DEVICE)
    gap = duality_gap(codes.maps.double(), signal.double(), operator, LMBDA)
    assert gap.max() <= 1e-5
    torch.testing.assert_close(gap, codes.gap, rtol=1e-6, atol=1e-12)
    assert (codes.status == SolveStatus.CONVERGED).all()
    theirs = solve_cbpdn(signal, dictionary, LMBDA, method="admm", accuracy="exact")
    torch.testing.assert_close(codes.synthesis, theirs.synthesis, rtol=0, atol=1e-3)
    # Some of the iterations are in float32 in either case.
    assert (codes.iterations > 0).all()


@pytest.mark.parametrize("limit", [5, 6])
def test_status_of_an_image_that_ran_out_of_iterations(limit: int) -> None:
    signal, dictionary = random_problem((1, *SOLVED[1:]))
    signal = torch.cat([signal, torch.zeros_like(signal)])
    accuracy = Accuracy(Splitting(30, 0.2, 1e-2, limit), DESCENT)
    for form in ("pointwise", "spatial"):
        codes = fused.solve_in_form(form, signal, dictionary, LMBDA, accuracy, None)
        assert codes.status.tolist() == [SolveStatus.MAX_ITERATIONS, SolveStatus.CONVERGED]
        assert codes.iterations.tolist() == [limit, 2]
        expected = solve_cbpdn(signal, dictionary, LMBDA, method="admm", accuracy=accuracy)
        torch.testing.assert_close(codes.maps, expected.maps, rtol=0, atol=1e-4 if form == "pointwise" else 5e-3)


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy under the interpreter
def test_a_diverging_image_leaves_its_batch_mates_alone() -> None:
    signal, dictionary = random_problem((2, *SOLVED[1:]))
    signal[0] *= 1e38
    accuracy = Accuracy(Splitting(30, 0.5, 5e-2, 20), DESCENT)
    codes = fused.solve(signal, dictionary, LMBDA, accuracy, None)
    expected = fused.solve(signal[1:], dictionary, LMBDA, accuracy, None)
    assert codes.status.tolist() == [SolveStatus.DIVERGED, SolveStatus.CONVERGED]
    assert torch.equal(codes.maps[1:], expected.maps)


@pytest.mark.skipif(INTERPRETED, reason="sizes that only a GPU reaches")
@pytest.mark.parametrize("side", [32, 64, 128, 224])
@pytest.mark.parametrize("tier", ["default", "reference"])
def test_sizes_of_a_gpu(side: int, tier: str) -> None:
    signal, dictionary = random_problem((5, 64, 3, 8, side, side))
    codes = solve_cbpdn(signal, dictionary, LMBDA, accuracy=tier)
    same(solve_cbpdn(signal, dictionary, LMBDA, accuracy=tier), codes, slice(None))
    same(solve_cbpdn(signal[2:4], dictionary, LMBDA, accuracy=tier), codes, slice(2, 4))
    theirs = solve_cbpdn(signal, dictionary, LMBDA, method="admm", accuracy=tier)
    assert torch.equal(codes.status, theirs.status)
    assert (codes.iterations - theirs.iterations).abs().max() <= math.ceil(
        0.1 * ACCURACIES[tier].splitting.max_iterations
    )
    error = (codes.synthesis - theirs.synthesis).flatten(1).norm(dim=1)
    assert (error <= 2e-2 * theirs.synthesis.flatten(1).norm(dim=1)).all()
