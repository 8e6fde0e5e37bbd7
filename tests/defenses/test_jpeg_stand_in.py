import io

import pytest
import torch
from PIL import Image

from stl_ray.defenses import make_defense
from stl_ray.defenses.jpeg_stand_in import cubic_rounding, tables, transcoded
from stl_ray.images import quantize


def by_libjpeg(images, quality):
    return make_defense("jpeg", {"quality": quality}, {}).purify(images, seeds=range(len(images))).images


@pytest.fixture(params=[(32, 32), (21, 34), (9, 17)], ids=str)
def images(request, natural_images):
    """Photographs, and noise, which has edges of every frequency in every colour, of sizes with parts of blocks."""
    height, width = request.param
    noise = torch.rand(4, 3, height, width, generator=torch.Generator().manual_seed(0))
    photographs = torch.nn.functional.interpolate(natural_images[::6], (height, width), mode="bilinear", antialias=True)
    return quantize(torch.cat([photographs, noise]))


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 92, 100])
def test_agrees_the_tables_with_libjpeg_s(quality):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format="JPEG", quality=quality)
    stored = Image.open(buffer).quantization
    for number, table in enumerate(tables(quality)):
        assert table.flatten().tolist() == list(stored[number])


def test_agrees_with_libjpeg_where_steps_are_single_levels(images):
    """Of quality 100: libjpeg's other roundings to whole levels are left, of colours, means, coefficients, samples and
    colours again. Each is off by 1/sqrt(12) level rms, and three meet in a value: 0.7 level rms with the colours' weights,
    and some coefficients on the other side of a half. A border or filter that is another costs several levels."""
    difference = 255 * (transcoded(images, 100, torch.round).clamp(0, 1) - by_libjpeg(images, 100)).abs()
    assert float(difference.mean()) < 1
    assert float(difference.max()) < 8


@pytest.mark.parametrize("quality", [75, 30])
def test_agrees_with_libjpeg_by_less_than_a_third_of_what_it_loses(images, quality):
    """A coefficient on the other side of a half is off by its whole step, which is as large as what is lost of it."""
    compressed = by_libjpeg(images, quality)
    difference = (transcoded(images, quality, torch.round).clamp(0, 1) - compressed).abs().mean()
    assert float(difference) < float((compressed - images).abs().mean()) / 3


def test_identity_cubic_rounding_by_hand():
    x = torch.tensor([-1.5, -0.5, 0.0, 0.25, 0.5, 2.75], requires_grad=True)
    y = cubic_rounding(x)
    expected = torch.tensor(
        [-1.87, -0.13, 0.0, 1 / 64 + 0.0025, 0.13, 3 - 1 / 64 - 0.0025]
    )  # halves go to the even number
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
    (derivative,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(derivative, torch.tensor([0.76, 0.76, 0.01, 0.1975, 0.76, 0.1975]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("quality", [75, 30])
def test_agrees_the_product_with_finite_differences_of_the_stand_in(images, quality):
    """In float64 the error is the third derivative's, h^2, and that of roundings that change within the step: few."""
    x = images.double()
    generator = torch.Generator().manual_seed(1)
    v, direction = (torch.randn(x.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    leaf = x.clone().requires_grad_()
    (product,) = torch.autograd.grad(transcoded(leaf, quality), leaf, v)
    step = 1e-7
    ahead, behind = (transcoded(x + sign * step * direction, quality) for sign in (1, -1))
    measured = ((ahead - behind) * v).flatten(1).sum(1) / (2 * step)
    torch.testing.assert_close((product * direction).flatten(1).sum(1), measured, rtol=1e-3, atol=1e-3)


def test_identity_the_defense_has_libjpeg_s_images_and_the_stand_in_s_jacobian(images):
    defense = make_defense("jpeg", {}, {})
    output, pullback = defense.linearised("stand_in")(images, range(len(images)))
    assert torch.equal(output, by_libjpeg(images, 75))
    leaf, v = images.clone().requires_grad_(), torch.ones_like(images)
    (expected,) = torch.autograd.grad(transcoded(leaf, 75), leaf, v)
    assert torch.equal(pullback(v), expected)


def test_invariant_the_product_depends_on_the_image_alone(images):
    v = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    linearise = make_defense("jpeg", {}, {}).linearised("stand_in")
    whole = linearise(images, range(8))[1](v)
    for rows in ([5], [6, 2, 0]):
        part = linearise(images[rows], rows)[1](v[rows])
        torch.testing.assert_close(part, whole[rows], rtol=1e-5, atol=1e-6)


def test_identity_white_passes_the_gradient():
    """White is coded as white but for float rounding, which the clip must not take for a value out of range."""
    white = torch.ones(1, 3, 16, 16).requires_grad_()
    (product,) = torch.autograd.grad(transcoded(white, 75, lambda x: x).sum(), white)
    torch.testing.assert_close(product, torch.ones_like(product), rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_invariant_flat_regions_keep_a_gradient(level):
    """Their coefficients are whole numbers, where the cubic has no derivative."""
    flat = torch.full((1, 3, 32, 32), level)
    v = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    product = make_defense("jpeg", {}, {}).linearised("stand_in")(flat, [0])[1](v)
    assert float(product.norm()) > 0.005 * float(v.norm())
