import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, SolveStatus, operator_of, reconstruct, solve_cbpdn, split_bands
from stl_ray.errors import TensorError


def test_agrees_with_low_band_plus_code(natural_images: Tensor, dictionary: Dictionary) -> None:
    images = natural_images[:3]
    result = reconstruct(images, dictionary, 0.2, "default")
    low, high = split_bands(images)
    codes = solve_cbpdn(high, dictionary, 0.2)
    operator = operator_of(dictionary, 32, 32, torch.float32, images.device)
    torch.testing.assert_close(result.images, low + operator.forward(codes.maps), rtol=0, atol=1e-6)
    assert torch.equal(result.support, codes.maps != 0)
    assert torch.equal(result.status, codes.status)
    assert torch.equal(result.iterations, codes.iterations)


def test_invariant_flat_images_stay_as_they_are(dictionary: Dictionary) -> None:
    images = torch.tensor([0.0, 0.25, 1.0])[:, None, None, None].expand(3, 3, 17, 12).contiguous()
    result = reconstruct(images, dictionary, 0.2, "default")
    torch.testing.assert_close(result.images, images, rtol=0, atol=1e-6)
    assert not result.support.any()
    assert (result.status == SolveStatus.CONVERGED).all()


def test_invariant_a_larger_lambda_keeps_less(natural_images: Tensor, dictionary: Dictionary) -> None:
    errors = [
        (reconstruct(natural_images[:2], dictionary, lmbda, "default").images - natural_images[:2]).norm()
        for lmbda in (0.01, 0.1, 0.3)
    ]
    assert errors[0] < errors[1] < errors[2]


def test_refuses_images_smaller_than_the_filters(dictionary: Dictionary) -> None:
    with pytest.raises(TensorError, match="smaller"):
        reconstruct(torch.zeros(1, 3, 7, 20), dictionary, 0.2, "default")
