import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stl_ray.csc import Dictionary, operator_of, solve_cbpdn
from stl_ray.csc import operator as operator_module
from stl_ray.csc.operator import ConvolutionOperator
from stl_ray.errors import TensorError

LARGEST = 2**20
"""Coefficients of one image in a random shape, so that an example takes a fraction of a second."""

shapes = st.tuples(
    st.integers(1, 128), st.sampled_from([1, 3]), st.integers(3, 16), st.integers(8, 225), st.integers(8, 225)
).filter(lambda shape: shape[2] <= min(shape[3:]) and shape[0] * shape[3] * shape[4] <= LARGEST)
"""(K, C, S, H, W)."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=30)
@given(shapes)
def test_identity_adjoint(shape: tuple[int, int, int, int, int]) -> None:
    k, c, side, height, width = shape
    operator = ConvolutionOperator(random(k, c, side, side), height, width)
    maps, images = random(2, k, height, width, seed=1), random(2, c, height, width, seed=2)
    synthesis, correlation = operator.forward(maps), operator.adjoint(images)
    scale = synthesis.norm() * images.norm()
    assert abs((synthesis * images).sum() - (maps * correlation).sum()) <= 1e-13 * scale


@settings(deadline=None, max_examples=30)
@given(shapes)
def test_identity_parseval(shape: tuple[int, int, int, int, int]) -> None:
    """A full spectrum has H W times the energy; the columns that half a spectrum leaves out mirror those it has."""
    k, c, side, height, width = shape
    operator = ConvolutionOperator(random(k, c, side, side), height, width)
    maps = random(1, k, height, width, seed=1)
    weights = torch.full((width // 2 + 1,), 2.0, dtype=torch.float64)
    weights[0] = 1
    if width % 2 == 0:
        weights[-1] = 1

    def energy(spectra: Tensor) -> Tensor:
        return (spectra.abs().square() * weights).sum() / (height * width)

    xf = operator.transform(maps)
    torch.testing.assert_close(energy(xf), maps.square().sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(energy(operator.df), operator.filters.square().sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        energy(operator.synthesize(xf)), operator.forward(maps).square().sum(), rtol=1e-11, atol=0
    )


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


def test_invariant_ten_dictionaries_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = random(10, 4, 3, 6, 6).float()
    dictionaries = [Dictionary(each / each.flatten(1).norm(dim=1)[:, None, None, None], 0.2) for each in filters]
    images = random(2, 3, 40, 36, seed=1).float()
    expected = [solve_cbpdn(images, dictionary, 0.2, method="admm").synthesis for dictionary in dictionaries]
    one = operator_of(dictionaries[0], 40, 36, torch.float32, torch.device("cpu")).nbytes
    monkeypatch.setattr(operator_module, "KEPT_BYTES", 3 * one)
    monkeypatch.setattr(operator_module, "_kept", {})
    for _ in range(2):
        for dictionary, synthesis in zip(dictionaries, expected, strict=True):
            assert torch.equal(solve_cbpdn(images, dictionary, 0.2, method="admm").synthesis, synthesis)
            # The inverses of the newest come when it is used.
            assert sum(kept.nbytes for kept in operator_module._kept.values()) < 3.2 * one


def test_identity_bytes_count_spectra_and_inverses() -> None:
    operator = ConvolutionOperator(random(6, 3, 4, 4), 9, 10)
    spectrum = 9 * 6 * 16
    assert operator.nbytes == 2 * 6 * 3 * spectrum
    operator.solve(0.5, operator.transform(random(1, 3, 9, 10)))
    assert operator.nbytes == (2 * 6 * 3 + 3 * 3) * spectrum


def test_refuses_images_smaller_than_the_filters(dictionary: Dictionary) -> None:
    with pytest.raises(TensorError, match="smaller"):
        operator_of(dictionary, 7, 32, torch.float32, torch.device("cpu"))
