import pytest
import torch
from torch import Tensor

from stl_ray.csc import (
    Accuracy,
    Codes,
    Descent,
    Dictionary,
    Splitting,
    admm,
    native,
    operator_of,
    projection_vjp,
    reconstruct,
    split_bands,
)
from stl_ray.csc.certificate import duality_gap
from stl_ray.csc.prox import soft_threshold

LMBDA = 0.2

TIGHT = Accuracy(Splitting(20, 1e-9, 1e-10, 50_000), Descent(1e-6, 1e-6, 5000))


def _images(small: tuple[Tensor, Dictionary]) -> Tensor:
    return small[0] + 0.5


def test_agrees_with_central_differences(small: tuple[Tensor, Dictionary]) -> None:
    images, dictionary = _images(small), small[1]
    codes = reconstruct(images, dictionary, 0.2, accuracy=TIGHT).codes
    certify(images, codes, dictionary)
    support = codes.support
    generator = torch.Generator().manual_seed(5)
    for _ in range(4):
        direction, v = torch.randn((2, *images.shape), dtype=torch.float64, generator=generator)
        step = 1e-6
        ahead, behind = (
            reconstruct(images + sign * step * direction, dictionary, 0.2, accuracy=TIGHT) for sign in (1, -1)
        )
        assert torch.equal(ahead.codes.support, support)
        assert torch.equal(behind.codes.support, support)
        expected = ((ahead.images - behind.images) / (2 * step) * v).sum((1, 2, 3))
        got = (direction * projection_vjp(v, support, dictionary, steps=500)[0]).sum((1, 2, 3))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)


def certify(images: Tensor, codes: Codes, dictionary: Dictionary) -> None:
    """That the codes solve the problem and no coefficient is about to enter or leave the support."""
    high = split_bands(images)[1]
    operator = operator_of(dictionary, *images.shape[2:], torch.float64, images.device)
    correlation = operator.adjoint(high - operator.forward(codes.maps)).abs()
    on = codes.maps != 0
    assert duality_gap(codes.maps, high, operator, LMBDA).max() < 1e-9
    assert on.flatten(1).any(1).all()
    assert codes.maps[on].abs().min() > 1e-4
    assert correlation[~on].max() < LMBDA * (1 - 1e-4)


def test_agrees_with_a_long_unrolled_solve(small: tuple[Tensor, Dictionary]) -> None:
    images, dictionary = _images(small), small[1]
    codes = reconstruct(images, dictionary, LMBDA, accuracy=TIGHT).codes
    certify(images, codes, dictionary)
    operator = operator_of(dictionary, 13, 10, torch.float64, images.device)
    x = images.clone().requires_grad_()
    low, high = split_bands(x)
    sf, rho = operator.transform(high), 2.0
    p = torch.zeros_like(codes.maps)
    for _ in range(3000):
        p = p + admm.ALPHA * admm.step(p, sf, operator, LMBDA / rho, rho)
    projected = low + operator.forward(soft_threshold(p, LMBDA / rho))
    torch.testing.assert_close(projected.detach(), images - high.detach() + codes.synthesis, rtol=0, atol=1e-9)
    v = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (expected,) = torch.autograd.grad(projected, x, v)
    got, residual = projection_vjp(v, codes.support, dictionary, steps=1000, tolerance=1e-12)
    assert residual.max() < 1e-7
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)


def test_agrees_with_a_dense_projector(small: tuple[Tensor, Dictionary]) -> None:
    images, dictionary = _images(small), small[1]
    support = reconstruct(images, dictionary, 0.2, accuracy=TIGHT).codes.support
    operator = operator_of(dictionary, 13, 10, torch.float64, images.device)
    v = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    got, residual = projection_vjp(v, support, dictionary, steps=500)
    assert residual.max() < 1e-6
    for index in range(2):
        where = support[1:, support[0] == index].T.tolist()
        units = torch.zeros((len(where), 6, 13, 10), dtype=torch.float64)
        for row, (k, i, j) in enumerate(where):
            units[row, k, i, j] = 1
        atoms = operator.forward(units).flatten(1).T
        on_span = atoms @ torch.linalg.lstsq(atoms, v[index].flatten()).solution
        rest = v[index].flatten() - on_span
        # <J^T v, h> = <P v, h> + <v - P v, L h> for every h: the low band's transpose by its action.
        h = torch.randn(
            images[index : index + 1].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
        )
        expected = (on_span * h.flatten()).sum() + (rest * split_bands(h)[0].flatten()).sum()
        torch.testing.assert_close((got[index] * h[0]).sum(), expected, rtol=1e-6, atol=1e-6)


def test_invariant_an_empty_support_leaves_the_low_band(small: tuple[Tensor, Dictionary]) -> None:
    images, dictionary = _images(small), small[1]
    empty = torch.zeros(4, 0, dtype=torch.int64)
    v = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradient, residual = projection_vjp(v, empty, dictionary)
    assert residual.tolist() == [0, 0]
    torch.testing.assert_close((gradient * images).sum(), (v * split_bands(images)[0]).sum())


@pytest.fixture(params=["native", "torch"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the conjugate gradients for float32 images on a CPU."""
    if request.param == "torch":
        monkeypatch.setattr(native, "available", lambda: False)
    elif not native.available():
        pytest.skip("the native core is not built")
    return str(request.param)


@pytest.mark.usefixtures("implementation")
def test_agrees_with_double_precision_after_a_few_steps(natural_images: Tensor, dictionary: Dictionary) -> None:
    images = natural_images[:4]
    support = reconstruct(images, dictionary, 0.2).codes.support
    v = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    for steps in (1, 6):
        single, residual = projection_vjp(v, support, dictionary, steps)
        double, expected = projection_vjp(v.double(), support, dictionary, steps)
        torch.testing.assert_close(single, double.float(), rtol=0, atol=1e-4)
        torch.testing.assert_close(residual, expected.float(), rtol=1e-3, atol=0)


@pytest.mark.usefixtures("implementation")
def test_invariant_alone_and_in_a_batch(natural_images: Tensor, dictionary: Dictionary) -> None:
    images = natural_images[:4]
    codes = reconstruct(images, dictionary, 0.2).codes
    together, residuals = projection_vjp(images, codes.support, dictionary)
    for index in range(4):
        own = codes.select(torch.tensor([index])).support
        alone, residual = projection_vjp(images[index : index + 1], own, dictionary)
        assert torch.equal(alone[0], together[index])
        assert residual[0] == residuals[index]


@pytest.mark.usefixtures("implementation")
def test_invariant_thirty_steps_are_close_to_convergence(natural_images: Tensor, dictionary: Dictionary) -> None:
    images = natural_images[:4]
    support = reconstruct(images, dictionary, 0.2).codes.support
    v = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    few, residual = projection_vjp(v, support, dictionary, steps=30)
    many, rest = projection_vjp(v.double(), support, dictionary, steps=1000)
    assert torch.cosine_similarity(few.flatten(1), many.float().flatten(1)).min() > 0.99
    assert rest.max() < 1e-6 < residual.min()
    assert residual.max() < 0.1


@pytest.mark.usefixtures("implementation")
def test_invariant_steps_end_at_the_tolerance(natural_images: Tensor, dictionary: Dictionary) -> None:
    images = natural_images[:4]
    support = reconstruct(images, dictionary, 0.2).codes.support
    for v, tolerance in ((images, 0.3), (images, 0.1), (images.double(), 1e-3), (images.double(), 1e-5)):
        residual = projection_vjp(v, support, dictionary, steps=1000, tolerance=tolerance)[1]
        assert residual.max() <= tolerance
        assert residual.min() > tolerance / 100
