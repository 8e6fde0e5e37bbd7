import math

import pytest
import torch
from torch import Tensor

from stl_ray.csc import (
    ACCURACIES,
    Accuracy,
    Codes,
    Descent,
    Dictionary,
    SolveStatus,
    Splitting,
    admm,
    operator_of,
    solve_cbpdn,
    split_bands,
)
from stl_ray.csc.certificate import duality_gap
from stl_ray.csc.prox import soft_threshold
from stl_ray.errors import TensorError

LMBDA = 0.2
CPU = torch.device("cpu")


def projected(codes: Codes, images: Tensor, highpass: Tensor, dictionary: Dictionary) -> Tensor:
    """Low band plus D x, in float64."""
    operator = operator_of(dictionary, *highpass.shape[2:], torch.float64, CPU)
    return (images - highpass).double() + operator.forward(codes.maps.double())


@pytest.fixture(scope="module")
def exact(highpass: Tensor, dictionary: Dictionary) -> Codes:
    return solve_cbpdn(highpass[:12], dictionary, LMBDA, accuracy="exact")


def test_certificate_exact_tier_holds_the_duality_gap(exact: Codes, highpass: Tensor, dictionary: Dictionary) -> None:
    operator = operator_of(dictionary, 32, 32, torch.float64, CPU)
    gap = duality_gap(exact.maps.double(), highpass[:12].double(), operator, LMBDA)
    assert gap.max() <= 1e-5
    torch.testing.assert_close(gap, exact.gap, rtol=1e-6, atol=1e-12)
    assert (exact.status == SolveStatus.CONVERGED).all()


@pytest.mark.parametrize(("tier", "slack"), [("default", 0.25), ("reference", 0.12), ("exact", 2e-4)])
def test_certificate_optimality_on_and_off_the_support(
    highpass: Tensor, dictionary: Dictionary, tier: str, slack: float
) -> None:
    signal = highpass[12:15]
    codes = solve_cbpdn(signal, dictionary, LMBDA, accuracy=tier)
    operator = operator_of(dictionary, 32, 32, torch.float64, CPU)
    maps = codes.maps.double()
    correlation = operator.adjoint(signal.double() - operator.forward(maps))
    on = maps != 0
    assert 0 < on.double().mean() < 0.1
    assert correlation.abs().max() <= LMBDA * (1 + slack)
    assert (correlation - LMBDA * maps.sign())[on].abs().max() <= LMBDA * slack


@pytest.mark.parametrize("method", ["admm", "auto"])
@pytest.mark.parametrize(("tier", "median", "worst"), [("default", 5e-3, 2e-2), ("reference", 2e-3, 1e-2)])
def test_agrees_with_the_certified_optimum(
    exact: Codes,
    natural_images: Tensor,
    highpass: Tensor,
    dictionary: Dictionary,
    method: str,
    tier: str,
    median: float,
    worst: float,
) -> None:
    images, signal = natural_images[:12], highpass[:12]
    codes = solve_cbpdn(signal, dictionary, LMBDA, method=method, accuracy=tier)
    optimum = projected(exact, images, signal, dictionary).flatten(1)
    error = (projected(codes, images, signal, dictionary).flatten(1) - optimum).norm(dim=1) / optimum.norm(dim=1)
    assert error.median() <= median
    assert error.max() <= worst
    assert (codes.status == SolveStatus.CONVERGED).all()
    assert codes.gap.isnan().all()


def test_agrees_with_sporco(exact: Codes, natural_images: Tensor, highpass: Tensor, dictionary: Dictionary) -> None:
    import sporco.fft
    from sporco.admm import cbpdn

    sporco.fft.pyfftw_threads = 1
    options = cbpdn.ConvBPDN.Options({"Verbose": False, "MaxMainIter": 500, "RelStopTol": 1e-3})
    filters = dictionary.filters.permute(2, 3, 1, 0).numpy()
    for index in range(2):
        signal = highpass[index].permute(1, 2, 0).numpy()
        solver = cbpdn.ConvBPDN(filters, signal, LMBDA, options, dimK=0)
        solver.solve()
        theirs = torch.from_numpy(solver.reconstruct().squeeze()).permute(2, 0, 1).double()
        ours = projected(exact, natural_images[:12], highpass[:12], dictionary)[index]
        low = (natural_images[index] - highpass[index]).double()
        assert ((low + theirs) - ours).norm() / ours.norm() < 1.5e-3


def test_agrees_with_the_closed_form_of_an_orthonormal_dictionary() -> None:
    delta = torch.zeros(1, 1, 2, 2)
    delta[0, 0, 0, 0] = 1
    signal = torch.randn((3, 1, 8, 9), generator=torch.Generator().manual_seed(0))
    codes = solve_cbpdn(signal, Dictionary(delta, LMBDA), LMBDA, accuracy="exact")
    torch.testing.assert_close(codes.maps, soft_threshold(signal, LMBDA), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (15, 21)])
def test_invariant_alone_in_a_batch_and_shuffled(
    highpass: Tensor, dictionary: Dictionary, size: tuple[int, int]
) -> None:
    signal = highpass[:7, :, : size[0], : size[1]]
    together = solve_cbpdn(signal, dictionary, LMBDA, method="admm")
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    shuffled = solve_cbpdn(signal[order], dictionary, LMBDA, method="admm")
    for index in range(7):
        alone = solve_cbpdn(signal[index : index + 1], dictionary, LMBDA, method="admm")
        for field in ("maps", "status", "iterations"):
            assert torch.equal(getattr(alone, field)[0], getattr(together, field)[index])
    assert torch.equal(shuffled.maps, together.maps[order])


@pytest.mark.parametrize("tier", ["default", "exact"])
def test_invariant_images_of_one_tile_stop_on_their_own(
    highpass: Tensor, dictionary: Dictionary, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a device where a tile holds many images."""
    signal = highpass[8:13]
    one_by_one = solve_cbpdn(signal, dictionary, LMBDA, accuracy=tier, method="admm")
    assert len(one_by_one.iterations.unique()) > 1
    monkeypatch.setattr(admm, "tile_size", lambda *_: 4)
    in_tiles = solve_cbpdn(signal, dictionary, LMBDA, accuracy=tier, method="admm")
    assert torch.equal(in_tiles.iterations, one_by_one.iterations)
    assert torch.equal(in_tiles.status, one_by_one.status)
    torch.testing.assert_close(in_tiles.maps, one_by_one.maps, rtol=0, atol=1e-5)
    torch.testing.assert_close(in_tiles.gap, one_by_one.gap, rtol=1e-3, atol=1e-9, equal_nan=True)


def test_invariant_under_the_norm_convention(highpass: Tensor) -> None:
    filters = torch.randn((8, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    per_channel = Dictionary(filters / filters.flatten(2).norm(dim=2)[:, :, None, None], LMBDA, "per_channel")
    joint = Dictionary(per_channel.filters / math.sqrt(3), LMBDA)
    signal = highpass[:2]
    left = solve_cbpdn(signal, joint, LMBDA, method="admm")
    right = solve_cbpdn(signal, per_channel, LMBDA * math.sqrt(3), method="admm")
    assert torch.equal(left.iterations, right.iterations)
    torch.testing.assert_close(left.maps, right.maps * math.sqrt(3), rtol=1e-3, atol=1e-5)


def test_invariant_double_precision_solves_the_same_problem(highpass: Tensor, dictionary: Dictionary) -> None:
    single = solve_cbpdn(highpass[:2], dictionary, LMBDA, method="admm")
    double = solve_cbpdn(highpass[:2].double(), dictionary, LMBDA, method="admm")
    assert double.maps.dtype == torch.float64
    torch.testing.assert_close(single.maps.double(), double.maps, rtol=0, atol=2e-4)


def test_invariant_a_warm_start_ends_at_the_same_place_sooner(highpass: Tensor, dictionary: Dictionary) -> None:
    signal, nearby = highpass[:4], highpass[:4] * 1.01
    cold = solve_cbpdn(nearby, dictionary, LMBDA, accuracy="reference", method="admm")
    start = solve_cbpdn(signal, dictionary, LMBDA, accuracy="reference", method="admm").maps
    warm = solve_cbpdn(nearby, dictionary, LMBDA, accuracy="reference", start=start, method="admm")
    assert (warm.iterations < 0.8 * cold.iterations).all()
    operator = operator_of(dictionary, 32, 32, torch.float32, CPU)
    error = (operator.forward(warm.maps) - operator.forward(cold.maps)).flatten(1).norm(dim=1)
    assert (error <= 0.05 * operator.forward(cold.maps).flatten(1).norm(dim=1)).all()
    settled = solve_cbpdn(signal, dictionary, LMBDA, accuracy="exact", start=solve_cbpdn(
        signal, dictionary, LMBDA, accuracy="exact").maps, method="admm")  # fmt: skip
    assert settled.iterations.max() == 25


@pytest.mark.parametrize("tier", list(ACCURACIES))
def test_invariant_flat_black_and_almost_flat_images(dictionary: Dictionary, tier: str) -> None:
    images = torch.zeros(3, 3, 16, 16)
    images[1] = 0.5
    images[2, :, 8, 8] = 1e-3
    codes = solve_cbpdn(split_bands(images)[1], dictionary, LMBDA, accuracy=tier)
    assert (codes.maps == 0).all()
    assert (codes.status == SolveStatus.CONVERGED).all()


def test_invariant_status_of_an_image_that_ran_out_of_iterations(highpass: Tensor, dictionary: Dictionary) -> None:
    signal = torch.cat([highpass[:1], torch.zeros_like(highpass[:1])])
    codes = solve_cbpdn(
        signal, dictionary, LMBDA, accuracy=Accuracy(Splitting(30, 0.2, 1e-2, 6), Descent(0.05, 0.1, 6)), method="admm"
    )
    assert codes.status.tolist() == [SolveStatus.MAX_ITERATIONS, SolveStatus.CONVERGED]
    assert codes.iterations.tolist() == [6, 2]


def test_invariant_a_diverging_image_leaves_its_batch_mates_alone(highpass: Tensor, dictionary: Dictionary) -> None:
    signal = highpass[:3].clone()
    signal[1] *= 1e38
    codes = solve_cbpdn(signal, dictionary, LMBDA, method="admm")
    expected = solve_cbpdn(highpass[:3], dictionary, LMBDA, method="admm")
    assert codes.status.tolist() == [SolveStatus.CONVERGED, SolveStatus.DIVERGED, SolveStatus.CONVERGED]
    assert torch.equal(codes.maps[::2], expected.maps[::2])


def test_refuses_bad_arguments(highpass: Tensor, dictionary: Dictionary) -> None:
    signal = highpass[:1]
    infinite = signal.clone()
    infinite[0, 0, 0, 0] = torch.inf
    bad_signals = [signal[0], signal[:0], signal[:, :1], signal.half(), (signal * 255).to(torch.uint8), infinite]
    for bad in [*bad_signals, signal[..., :7, :]]:
        with pytest.raises(TensorError):
            solve_cbpdn(bad, dictionary, LMBDA)
    for lmbda in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(TensorError, match="lambda"):
            solve_cbpdn(signal, dictionary, lmbda)
    with pytest.raises(TensorError, match="method"):
        solve_cbpdn(signal, dictionary, LMBDA, method="magic")
    with pytest.raises(TensorError, match="accuracy"):
        solve_cbpdn(signal, dictionary, LMBDA, accuracy="perfect")
    with pytest.raises(TensorError, match="start"):
        solve_cbpdn(signal, dictionary, LMBDA, start=torch.zeros(1, 3, 32, 32))
