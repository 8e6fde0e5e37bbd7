import pytest
import torch

from stl_ray.defenses import make_defense
from stl_ray.defenses.deflection import deflected
from stl_ray.defenses.robust_cam import robust_cam
from stl_ray.defenses.wavelets import denoised
from stl_ray.errors import ConfigError
from stl_ray.images import quantize
from stl_ray.models import build_classifier

SEEDS = list(range(24))


@pytest.fixture(scope="module")
def classifier():
    return build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()


def pixel_deflection(network=None, **options):
    resources = {} if network is None else {"classifier": network}
    return make_defense("pixel_deflection", options, resources)


def test_identity_map_then_deflection_then_denoising(natural_images, classifier):
    images = quantize(natural_images)
    maps = robust_cam(classifier, images)
    expected = denoised(deflected(images, SEEDS, 200, 10, maps), 0.04)
    assert torch.equal(pixel_deflection(classifier).purify(images, seeds=SEEDS).images, expected)
    without = denoised(deflected(images, SEEDS, 200, 10), 0.04)
    assert torch.equal(pixel_deflection(map="none").purify(images, seeds=SEEDS).images, without)
    alone = deflected(images, SEEDS, 70, 3)
    options = {"map": "none", "sigma": 0, "deflections": 70, "window": 3}
    assert torch.equal(pixel_deflection(**options).purify(images, seeds=SEEDS).images, alone)


def test_refuses_a_map_without_a_classifier_or_with_one_that_has_no_layers():
    with pytest.raises(ConfigError, match="without classifier"):
        pixel_deflection()

    class Bare:
        logits = logits_and_vjp = None

    with pytest.raises(ConfigError, match="needs a network's layers") as caught:
        pixel_deflection(Bare())
    assert caught.value.got == "Bare"
    assert pixel_deflection(Bare(), map="none").classifier is None


def test_identity_names_the_network_of_the_map_and_not_its_name(classifier):
    identity = pixel_deflection(classifier).identity()
    assert identity == pixel_deflection(classifier, classifier="mine").identity()
    other = build_classifier("small_cnn", ["a", "b", "c"], seed=1).eval()
    changed = [pixel_deflection(other), pixel_deflection(map="none")]
    changed += [pixel_deflection(classifier, **{name: 3}) for name in ("deflections", "window", "sigma")]
    assert all(defense.identity() != identity for defense in changed)


@pytest.mark.parametrize("mapped", [False, True])
def test_agrees_the_gradient_with_finite_differences_of_the_same_draw(natural_images, classifier, mapped):
    defense = pixel_deflection(classifier) if mapped else pixel_deflection(map="none")
    generator = torch.Generator().manual_seed(0)
    images = (0.1 + 0.8 * natural_images[:3].double()) + 0.01 * torch.rand((3, 3, 32, 32), generator=generator)
    direction, v = (torch.randn(images.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    output, pullback = defense.linearised("exact")(images, SEEDS[:3])
    step = 1e-7  # so small that the map moves no draw
    ahead, behind = (defense.purify(images + sign * step * direction, seeds=SEEDS[:3]).images for sign in (1, -1))
    expected = ((ahead - behind) / (2 * step) * v).sum((1, 2, 3))
    torch.testing.assert_close((pullback(v) * direction).sum((1, 2, 3)), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(output, defense.purify(images, seeds=SEEDS[:3]).images)
    assert torch.equal(defense.linearised("bpda")(images, SEEDS[:3])[1](v), v)


@pytest.mark.parametrize("options", [{"deflections": 0}, {"window": 0}, {"sigma": -1}, {"map": "cam"}])
def test_refuses_options_out_of_range(options, classifier):
    with pytest.raises(ConfigError):
        pixel_deflection(classifier, **options)
