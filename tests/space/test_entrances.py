"""What cannot be projected is refused by name at every public entrance, and hard images get right answers there."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stl_ray.csc import ACCURACIES, Dictionary, SolveStatus, operator_of, solve_cbpdn, split_bands
from stl_ray.errors import DictionaryError, StlRayError, TensorError
from stl_ray.space import QuasiNaturalSpace, SparseTransformationLayer

Entrance = Callable[..., object]


@pytest.fixture(params=["solve_cbpdn", "project", "exact layer", "bpda layer", "layer without gradient"])
def entrance(request: pytest.FixtureRequest, space: QuasiNaturalSpace) -> Entrance:
    """Takes images and the method; with a dictionary of RGB filters of 8 x 8."""
    match request.param:
        case "solve_cbpdn":
            return lambda images, method="auto": solve_cbpdn(images, space.universal_dictionary, 0.2, method=method)
        case "project":
            return lambda images, method="auto": space.project(images, method=method)
        case "exact layer":
            return lambda images, method="auto": SparseTransformationLayer(space, method=method)(images)
        case "bpda layer":
            return lambda images, method="auto": SparseTransformationLayer(space, "bpda", method=method)(images)
        case _:
            return lambda images, method="auto": SparseTransformationLayer(space, "none", method=method)(images)


def with_pixel(images: Tensor, value: float) -> Tensor:
    changed = images.clone()
    changed[1, 2, 3, 4] = value
    return changed


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda images: with_pixel(images, math.nan), "finite"),
        (lambda images: with_pixel(images, math.inf), "finite"),
        (lambda images: with_pixel(images, -math.inf), "finite"),
        (lambda images: images[:, :1], "shape"),
        (lambda images: images.repeat(1, 2, 1, 1), "shape"),
        (lambda images: images[0], "shape"),
        (lambda images: images[:0], "shape"),
        (lambda images: images[:, :, :7], "smaller"),
        (lambda images: images[..., :7], "smaller"),
        (lambda images: (images * 255).to(torch.uint8), "type"),
        (lambda images: (images * 255).long(), "type"),
        (lambda images: images > 0.5, "type"),
    ],
)
def test_refuses_images_by_what_was_expected_and_what_came(
    entrance: Entrance, natural_images: Tensor, spoil: Callable[[Tensor], Tensor], words: str
) -> None:
    with pytest.raises(TensorError, match=words) as caught:
        entrance(spoil(natural_images[:2]))
    assert caught.value.expected is not None
    assert caught.value.got is not None


def test_refuses_an_unknown_method(entrance: Entrance, natural_images: Tensor) -> None:
    with pytest.raises(TensorError, match="method") as caught:
        entrance(natural_images[:1], method="magic")
    assert caught.value.item == "magic"
    assert "admm" in str(caught.value.expected)


@pytest.mark.parametrize("spoil", [lambda x: x * 255, lambda x: x - 0.5, lambda x: with_pixel(x, 1.01)])
@pytest.mark.parametrize("gradient", ["project", "exact", "bpda", "none"])
def test_refuses_pixels_out_of_range(
    space: QuasiNaturalSpace, natural_images: Tensor, spoil: Callable[[Tensor], Tensor], gradient: str
) -> None:
    entrance = space.project if gradient == "project" else SparseTransformationLayer(space, gradient)
    with pytest.raises(TensorError, match="range") as caught:
        entrance(spoil(natural_images[:2]))
    assert caught.value.expected == "[0, 1]"


@pytest.mark.parametrize("lmbda", [0.0, -0.1, math.nan, math.inf])
def test_refuses_a_lambda_that_is_no_weight(space: QuasiNaturalSpace, natural_images: Tensor, lmbda: float) -> None:
    dictionary = space.universal_dictionary
    for entrance in (
        lambda: solve_cbpdn(natural_images[:1], dictionary, lmbda),
        lambda: replace(space, lmbda=lmbda),
        lambda: QuasiNaturalSpace.from_dictionary(dictionary, lmbda),
        lambda: Dictionary(dictionary.filters, lmbda),
    ):
        with pytest.raises(StlRayError, match="lambda") as caught:
            entrance()
        assert caught.value.got is lmbda


def test_refuses_filters_that_break_their_convention(space: QuasiNaturalSpace) -> None:
    filters = space.universal_dictionary.filters
    for bad, norm in ((filters * 1.01, "joint"), (filters, "per_channel"), (filters * math.nan, "joint")):
        with pytest.raises(DictionaryError, match="convention") as caught:
            Dictionary(bad, 0.2, norm)
        assert caught.value.expected is not None
        assert caught.value.got is not None


@pytest.mark.parametrize("tier", list(ACCURACIES))
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_identity_flat_images_stay_as_they_are(space: QuasiNaturalSpace, tier: str, value: float) -> None:
    images = torch.full((2, 3, 32, 32), value)
    result = space.project(images, accuracy=tier)
    torch.testing.assert_close(result.images, images, rtol=0, atol=1e-6)
    assert (result.status == SolveStatus.CONVERGED).all()
    assert (result.sparsity == 0).all()
    assert torch.equal(SparseTransformationLayer(space, "exact", tier)(images), result.images)


@pytest.mark.parametrize("tier", list(ACCURACIES))
def test_agrees_with_the_closed_form_for_one_faint_pixel_of_noise(space: QuasiNaturalSpace, tier: str) -> None:
    """Where no filter correlates by more than lambda, zero codes are the optimum and T is the low band."""
    images = torch.full((1, 3, 32, 32), 0.5)
    images[0, 1, 5, 30] += 0.1
    low, high = split_bands(images)
    space = space.universal()
    operator = operator_of(space.universal_dictionary, 32, 32, torch.float32, images.device)
    assert operator.adjoint(high).abs().max() < 0.2
    result = space.project(images, accuracy=tier)
    assert (result.sparsity == 0).all()
    assert torch.equal(result.images, low)
    assert (result.status == SolveStatus.CONVERGED).all()


@pytest.mark.parametrize(("tier", "error"), [("default", 2e-2), ("reference", 1e-2), ("exact", 2 * 1e-5**0.5)])
def test_agrees_with_the_exact_solve_for_one_bright_pixel_of_noise(
    space: QuasiNaturalSpace, tier: str, error: float
) -> None:
    """Errors as a share of the image, as docs/solver.md promises them: T keeps little of a lone pixel.

    Of the exact tier they are proved. The objective F is strongly convex in D z, so that a relative duality gap of 1e-5
    leaves |D z - D z*|^2 <= 2 (F(z) - F(z*)) <= 2e-5 F(0) = 1e-5 |s|^2, for the expected z as well.
    """
    space = replace(space.universal(), lmbda=0.05)
    images = torch.zeros(8, 3, 32, 32)
    for index, image in enumerate(images):
        image[index % 3, 5 + 3 * index, 30 - 4 * index] = 1
    expected = space.project(images.double(), accuracy="exact")
    result = space.project(images, accuracy=tier)
    assert (expected.sparsity > 0).all()
    assert (result.status == SolveStatus.CONVERGED).all()
    assert ((result.images.double() - expected.images).flatten(1).norm(dim=1) <= error).all()  # every image's norm is 1
