import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, SolveStatus, operator_of, projection, reconstruct, solve_cbpdn, split_bands
from stl_ray.errors import TensorError


def test_agrees_with_low_band_plus_code(natural_images: Tensor, dictionary: Dictionary) -> None:
    images = natural_images[:3]
    result = reconstruct(images, dictionary, 0.2)
    low, high = split_bands(images)
    codes = solve_cbpdn(high, dictionary, 0.2)
    operator = operator_of(dictionary, 32, 32, torch.float32, images.device)
    torch.testing.assert_close(result.images, low + operator.forward(codes.maps), rtol=0, atol=1e-6)
    assert torch.equal(result.codes.maps, codes.maps)
    assert torch.equal(result.codes.support, codes.maps.nonzero().T)
    torch.testing.assert_close(result.codes.sparsity, (codes.maps != 0).float().mean((1, 2, 3)))
    for field in ("synthesis", "status", "iterations"):
        assert torch.equal(getattr(result.codes, field), getattr(codes, field))


def test_invariant_flat_images_stay_as_they_are(dictionary: Dictionary) -> None:
    images = torch.tensor([0.0, 0.25, 1.0])[:, None, None, None].expand(3, 3, 17, 12).contiguous()
    result = reconstruct(images, dictionary, 0.2)
    torch.testing.assert_close(result.images, images, rtol=0, atol=1e-6)
    assert result.codes.support.shape == (4, 0)
    assert (result.codes.status == SolveStatus.CONVERGED).all()


def test_invariant_a_larger_lambda_keeps_less(natural_images: Tensor, dictionary: Dictionary) -> None:
    errors = [
        (reconstruct(natural_images[:2], dictionary, lmbda).images - natural_images[:2]).norm()
        for lmbda in (0.01, 0.1, 0.3)
    ]
    assert errors[0] < errors[1] < errors[2]


def test_invariant_how_many_images_are_solved_together(
    natural_images: Tensor, dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = natural_images[:5]
    start = reconstruct(images * 0.99, dictionary, 0.2).codes
    whole = [reconstruct(images, dictionary, 0.2, start=first) for first in (None, start)]
    monkeypatch.setattr(projection, "PIXELS_AT_ONCE", 2 * 32 * 32 + 1)
    parts = [reconstruct(images, dictionary, 0.2, start=first) for first in (None, start)]
    for ours, theirs in zip(parts, whole, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.codes.support, theirs.codes.support)
        assert torch.equal(ours.codes.iterations, theirs.codes.iterations)
    assert not torch.equal(parts[0].images, parts[1].images)


def test_refuses_images_smaller_than_the_filters(dictionary: Dictionary) -> None:
    with pytest.raises(TensorError, match="smaller"):
        reconstruct(torch.zeros(1, 3, 7, 20), dictionary, 0.2)
