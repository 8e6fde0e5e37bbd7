import pytest
import torch

from stl_ray.errors import TensorError
from stl_ray.models import build_classifier, load, predict, save_classifier
from stl_ray.models.thermometer import LEVELS, Thermometer

NAMES = ["cat", "dog", "frog"]


def bits(*values: float) -> list[list[int]]:
    """The bits of each value in an image of one channel and one row."""
    image = torch.tensor(values).view(1, 1, 1, -1)
    return Thermometer()(image)[0, :, 0].T.int().tolist()


@pytest.mark.parametrize(
    ("value", "ones"),
    # int(.99999 k / 255 * 16) + 1: a sixteenth of 255 is 15.9375 grey levels.
    [(0, 1), (15 / 255, 1), (16 / 255, 2), (127 / 255, 8), (128 / 255, 9), (239 / 255, 15), (240 / 255, 16), (1, 16)],
)
def test_identity_the_lowest_bits_first(value, ones):
    assert bits(value) == [[1] * ones + [0] * (LEVELS - ones)]


def test_identity_values_outside_the_range_are_clipped():
    assert bits(-3.0, 7.0) == bits(0.0, 1.0)


def test_identity_a_channel_s_bits_lie_together():
    image = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    encoded = Thermometer()(image)[0, :, 0, 0]
    assert encoded.view(3, LEVELS).sum(1).tolist() == [1, 8, 16]  # .99999 * .5 * 16 is 7.99992


def test_agrees_every_grey_level_with_the_definition_in_whole_numbers():
    # .99999 k / 255 * 16 in whole numbers, so that no rounding decides.
    expected = [99999 * k * 16 // (255 * 100000) + 1 for k in range(256)]
    assert [sum(row) for row in bits(*(torch.arange(256) / 255).tolist())] == expected


@pytest.mark.parametrize(
    ("grey", "rising"),
    [
        (0.0, [0, 1]),  # where a ramp ends and the next begins, both rise, as in TensorFlow's minimum and maximum
        (8.0, [1]),
        (16.0, [1, 2]),
        (100.0, [7]),
        (239.0, [15]),
        (250.0, []),  # there is no bit beyond the last
    ],
)
def test_identity_the_gradient_is_that_of_the_ramps(grey, rising):
    image = torch.full((1, 1, 1, 1), grey / 255, requires_grad=True)
    cotangent = torch.arange(1.0, LEVELS + 1).view(1, LEVELS, 1, 1)
    (gradient,) = torch.autograd.grad(Thermometer()(image), image, cotangent)
    assert gradient.item() == pytest.approx(255 / 16 * sum(k + 1 for k in rising))


def test_agrees_the_gradient_with_autograd_through_the_ramps():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(2, 3 * LEVELS, 5, 4, generator=generator, dtype=torch.float64)
    steps = torch.arange(-1, LEVELS - 1).view(LEVELS, 1, 1)
    ramps = ((255 * image.unsqueeze(2) - 16 * steps) / 16).clamp(0, 1).flatten(1, 2)
    (expected,) = torch.autograd.grad(ramps, image, cotangent)
    (gradient,) = torch.autograd.grad(Thermometer()(image), image, cotangent)
    torch.testing.assert_close(gradient, expected)


def test_identity_the_classifier_encodes_what_it_is_given(natural_images):
    classifier = build_classifier("thermometer_resnet20", NAMES, seed=0).eval()
    images = natural_images[:3]
    network = classifier.backbone[1]
    assert torch.equal(classifier.mean, torch.zeros(3, 1, 1)) and torch.equal(classifier.std, torch.ones(3, 1, 1))
    torch.testing.assert_close(classifier.logits(images), network(Thermometer()(images)))
    logits, product = classifier.logits_and_vjp(images, torch.ones_like)
    assert logits.shape == (3, 3) and bool(product.isfinite().all()) and bool(product.flatten(1).any(1).all())


def test_roundtrip_the_encoding_has_no_weights(tmp_path, natural_images):
    classifier = build_classifier("thermometer_resnet20", NAMES, seed=0).eval()
    save_classifier(str(tmp_path / "model"), classifier, {})
    loaded = load(str(tmp_path / "model"))
    assert predict(loaded, natural_images).tolist() == predict(classifier, natural_images).tolist()
    assert all(name.startswith("1.") for name in classifier.backbone.state_dict())


def test_refuses_images_of_other_channels():
    with pytest.raises(TensorError, match="RGB"):
        build_classifier("thermometer_resnet20", NAMES, seed=0).eval().logits(torch.rand(2, 1, 8, 8))
