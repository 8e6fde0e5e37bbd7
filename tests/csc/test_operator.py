import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stl_ray.csc import Dictionary, operator_of
from stl_ray.csc import operator as operator_module
from stl_ray.csc.operator import ConvolutionOperator
from stl_ray.errors import TensorError

shapes = st.tuples(
    st.integers(1, 7), st.sampled_from([1, 3]), st.integers(3, 8), st.integers(8, 21), st.integers(8, 21)
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=30)
@given(shapes)
def test_identity_adjoint(shape: tuple[int, int, int, int, int]) -> None:
    k, c, side, height, width = shape
    operator = ConvolutionOperator(random(k, c, side, side), height, width)
    maps, images = random(2, k, height, width, seed=1), random(2, c, height, width, seed=2)
    left = (operator.forward(maps) * images).sum()
    right = (maps * operator.adjoint(images)).sum()
    torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 12), (11, 7)])
def test_agrees_with_circular_convolution_by_definition(height: int, width: int) -> None:
    filters, maps = random(4, 3, 5, 5), random(2, 4, height, width, seed=1)
    expected = torch.zeros(2, 3, height, width, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            shifted = maps.roll((i, j), dims=(2, 3))
            expected += torch.einsum("kc,bkhw->bchw", filters[:, :, i, j], shifted)
    torch.testing.assert_close(ConvolutionOperator(filters, height, width).forward(maps), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_identity_solve_inverts_the_system(channels: int) -> None:
    operator = ConvolutionOperator(random(6, channels, 4, 4), 9, 10)
    w = random(2, channels, 9, 10, seed=3)
    for rho in (0.5, 6.0):
        b = rho * w + operator.forward(operator.adjoint(w))
        solved = operator.inverse_transform(operator.solve(rho, operator.transform(b)))
        torch.testing.assert_close(solved, w, rtol=1e-9, atol=1e-9)


def test_invariant_operator_is_kept(dictionary: Dictionary) -> None:
    device = torch.device("cpu")
    first = operator_of(dictionary, 32, 32, torch.float32, device)
    assert operator_of(Dictionary(dictionary.filters.clone(), 0.2), 32, 32, torch.float32, device) is first
    assert operator_of(dictionary, 32, 33, torch.float32, device) is not first


def test_invariant_what_is_kept_is_bounded_in_bytes(dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")

    def operator_at(width: int) -> ConvolutionOperator:
        return operator_of(dictionary, 40, width, torch.float32, device)

    spectra = [operator_at(width) for width in (40, 42, 44)]
    assert all(operator_at(width) is kept for width, kept in zip((40, 42, 44), spectra, strict=True))
    monkeypatch.setattr(operator_module, "KEPT_BYTES", spectra[1].nbytes + spectra[2].nbytes)
    newest = operator_at(38)
    assert operator_at(38) is newest
    assert operator_at(44) is spectra[2]
    assert operator_at(40) is not spectra[0]
    # One that is larger than the bound is kept all the same, alone.
    monkeypatch.setattr(operator_module, "KEPT_BYTES", 1)
    large = operator_at(46)
    assert operator_at(46) is large
    assert operator_at(44) is not spectra[2]


def test_identity_bytes_count_spectra_and_inverses() -> None:
    operator = ConvolutionOperator(random(6, 3, 4, 4), 9, 10)
    spectrum = 9 * 6 * 16
    assert operator.nbytes == 2 * 6 * 3 * spectrum
    operator.solve(0.5, operator.transform(random(1, 3, 9, 10)))
    assert operator.nbytes == (2 * 6 * 3 + 3 * 3) * spectrum


def test_refuses_images_smaller_than_the_filters(dictionary: Dictionary) -> None:
    with pytest.raises(TensorError, match="smaller"):
        operator_of(dictionary, 7, 32, torch.float32, torch.device("cpu"))
