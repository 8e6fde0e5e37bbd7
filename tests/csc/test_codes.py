import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stl_ray.csc import METHODS, Codes, Dictionary, cbpdn, choose_method, solve_cbpdn
from stl_ray.errors import TensorError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def codes(highpass: Tensor, dictionary: Dictionary) -> Codes:
    """Of five images, one of them flat."""
    signal = highpass[:5].clone()
    signal[3] = 0
    return solve_cbpdn(signal, dictionary, 0.2, method="admm")


def test_invariant_sparse_and_strided_say_the_same(codes: Codes) -> None:
    sparse = codes.sparse()
    assert sparse.coefficients.is_sparse
    assert sparse.coefficients.is_coalesced()
    assert sparse.sparse() is sparse
    assert torch.equal(sparse.maps, codes.maps)
    assert torch.equal(sparse.support, codes.support)
    assert torch.equal(codes.support, codes.maps.nonzero().T)
    for one in (codes, sparse):
        torch.testing.assert_close(one.sparsity, (codes.maps != 0).float().mean((1, 2, 3)))
        assert one.sparsity[3] == 0


def test_invariant_an_explicit_zero_is_not_on_the_support(codes: Codes) -> None:
    coefficients = codes.sparse().coefficients.clone()
    coefficients.values()[0] = 0
    assert replace(codes, coefficients=coefficients).support.shape[1] == codes.support.shape[1] - 1


@pytest.mark.parametrize("sparse", [True, False])
def test_roundtrip_selected_and_joined(codes: Codes, sparse: bool) -> None:
    whole = codes.sparse() if sparse else codes
    pieces = [whole.select(torch.tensor(part)) for part in ([4, 1], [3], [0, 2])]
    order = torch.tensor([4, 1, 3, 0, 2]).argsort()
    again = Codes.cat(pieces).select(order)
    assert again.coefficients.is_sparse == sparse
    assert torch.equal(again.support, whole.support)
    for field in ("maps", "synthesis", "status", "iterations"):
        assert torch.equal(getattr(again, field), getattr(whole, field))


def test_invariant_a_start_may_be_codes_or_either_kind_of_tensor(
    highpass: Tensor, dictionary: Dictionary, codes: Codes
) -> None:
    signal = highpass[:5]
    starts = (codes, codes.sparse(), codes.maps, codes.maps.to_sparse(), codes.maps.double())
    first, *others = (solve_cbpdn(signal, dictionary, 0.2, method="admm", start=start) for start in starts)
    assert not torch.equal(first.iterations, codes.iterations)
    for other in others:
        assert torch.equal(other.maps, first.maps)


def test_refuses_a_start_that_does_not_fit(highpass: Tensor, dictionary: Dictionary, codes: Codes) -> None:
    broken = codes.maps.clone()
    broken[0, 0, 0, 0] = torch.nan
    for bad in (codes, broken, broken.to_sparse(), codes.maps[:, :3]):
        signal = highpass[:4] if bad is codes else highpass[:5]
        with pytest.raises(TensorError, match="start"):
            solve_cbpdn(signal, dictionary, 0.2, start=bad)


def test_invariant_auto_is_the_fastest_that_can_run() -> None:
    assert choose_method(torch.float64, CPU) == "admm"
    assert choose_method(torch.float64, torch.device("cuda")) == "admm"
    assert choose_method(torch.float32, CPU) == ("active_set" if cbpdn.native.available() else "admm")
    assert choose_method(torch.float32, CPU) in METHODS


@pytest.mark.parametrize(("triton_runs", "expected"), [(True, "fused"), (False, "admm")])
def test_invariant_auto_on_a_gpu_needs_triton(
    monkeypatch: pytest.MonkeyPatch, triton_runs: bool, expected: str
) -> None:
    monkeypatch.setattr(cbpdn.fused, "available", lambda: triton_runs)
    assert choose_method(torch.float32, torch.device("cuda")) == expected


def test_invariant_one_warning_without_the_native_core(
    monkeypatch: pytest.MonkeyPatch, highpass: Tensor, dictionary: Dictionary
) -> None:
    monkeypatch.setattr(cbpdn.native, "available", lambda: False)
    cbpdn._warn_of_missing_core.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            solve_cbpdn(highpass[:1], dictionary, 0.2)
        solve_cbpdn(highpass[:1].double(), dictionary, 0.2)
    assert [warning.category for warning in caught] == [RuntimeWarning]
    for words in ("native core", "times slower", "compiler"):
        assert words in str(caught[0].message)


def test_invariant_no_warning_where_it_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, highpass: Tensor, dictionary: Dictionary
) -> None:
    monkeypatch.setattr(cbpdn.native, "available", lambda: False)
    cbpdn._warn_of_missing_core.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve_cbpdn(highpass[:1].double(), dictionary, 0.2)
        solve_cbpdn(highpass[:1], dictionary, 0.2, method="admm")


def test_identity_cleared_images_have_no_coefficient_left() -> None:
    maps = torch.arange(1.0, 25).view(3, 2, 2, 2)
    one = torch.zeros(3, dtype=torch.int64)
    codes = Codes(maps.to_sparse(), maps[:, :1], one, one, one.double())
    cleared = codes.cleared(torch.tensor([False, True, False]))
    expected = maps.clone()
    expected[1] = 0
    assert torch.equal(cleared.maps, expected)
    assert torch.equal(codes.maps, maps)
    assert torch.equal(
        Codes(maps, maps[:, :1], one, one, one.double()).cleared(torch.tensor([True] * 3)).maps, 0 * maps
    )
