"""The filters beside SciPy's, which their papers' code calls."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from stl_ray.defenses import make_defense
from stl_ray.errors import TensorError
from stl_ray.images import quantize


def filtered(name, images, **options):
    return make_defense(name, options, {}).purify(images, seeds=range(len(images))).images


@pytest.fixture(params=[(32, 32), (8, 13)], ids=str)
def images(request, natural_images):
    height, width = request.param
    return quantize(natural_images[::6, :, :height, :width])


def by_channel(function, images):
    return torch.from_numpy(np.stack([[function(plane) for plane in image] for image in images.double().numpy()]))


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_agrees_the_median_with_scipy_s(images, size):
    expected = by_channel(lambda plane: ndimage.median_filter(plane, size=size, mode="reflect"), images)
    assert torch.equal(filtered("median_filter", images, size=size).double(), expected)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_agrees_the_mean_with_scipy_s(images, size):
    """Ours is rounded to float32 at the end, SciPy's in float64 as it goes."""
    expected = by_channel(lambda plane: ndimage.uniform_filter(plane, size=size, mode="reflect"), images)
    torch.testing.assert_close(filtered("mean_filter", images, size=size).double(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.9])
def test_agrees_the_gaussian_with_scipy_s(images, sigma):
    expected = by_channel(lambda plane: ndimage.gaussian_filter(plane, sigma, mode="reflect"), images)
    torch.testing.assert_close(filtered("gaussian_filter", images, sigma=sigma).double(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["median_filter", "mean_filter", "gaussian_filter"])
def test_invariant_images_are_filtered_a_few_at_a_time_and_each_by_itself(natural_images, name):
    large = quantize(torch.nn.functional.interpolate(natural_images[:3], 224, mode="bilinear"))
    together = filtered(name, large)
    assert torch.equal(together, torch.cat([filtered(name, image[None]) for image in large]))


def test_identity_of_an_even_window_the_pixel_is_the_lower_right_and_the_median_the_upper():
    image = torch.zeros(1, 3, 8, 8)
    image[0, :, 3, 4] = 1.0
    image[0, :, 3, 5] = 0.5
    found = filtered("median_filter", image, size=2)
    expected = torch.zeros_like(image)
    expected[0, :, 3:5, 5] = 0.5  # 0, 0, 0.5, 1: the third
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [("median_filter", {"size": 3}), ("mean_filter", {}), ("gaussian_filter", {}), ("resize_pad", {})],
)
def test_agrees_the_exact_gradient_with_finite_differences(natural_images, name, options):
    """All are linear near images without ties: in float64 what is left is rounding, 1e-16 over the step."""
    x = (
        natural_images[::6].double()
        + 1e-3 * torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    )
    v, direction = (
        torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in (1, 2)
    )
    linearise = make_defense(name, options, {}).linearised("exact")
    _, pullback = linearise(x, range(4))
    step = 1e-9
    ahead, behind = (linearise(x + sign * step * direction, range(4))[0] for sign in (1, -1))
    measured = ((ahead - behind) * v).flatten(1).sum(1) / (2 * step)
    torch.testing.assert_close((pullback(v) * direction).flatten(1).sum(1), measured, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [("median_filter", {"size": 15}), ("mean_filter", {"size": 15}), ("gaussian_filter", {"sigma": 3})],
)
def test_refuses_an_image_smaller_than_half_a_window(natural_images, name, options):
    small = natural_images[:1, :, :6, :]
    with pytest.raises(TensorError, match="too small for the window"):
        filtered(name, small, **options)
    assert filtered(name, natural_images[:1, :, :12, :], **options).shape == (1, 3, 12, 32)


def test_certificate_means_of_white_are_white(natural_images):
    white = torch.ones(1, 3, 16, 16)
    for name in ("mean_filter", "gaussian_filter"):
        assert torch.equal(filtered(name, white), white)
