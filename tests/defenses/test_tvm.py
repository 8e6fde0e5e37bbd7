import pytest
import torch

from stl_ray.defenses import make_defense
from stl_ray.defenses.split_bregman import SplitBregman
from stl_ray.errors import TensorError
from stl_ray.images import quantize


def tvm(**options):
    return make_defense("tvm", options, {})


def test_identity_defaults_are_those_of_the_published_figures():
    assert tvm().identity() == {
        "defense": "tvm", "drop": 0.5, "weight": 0.03, "sweeps": 10, "tolerance": 0.01, "max_iterations": 100,
        "isotropic": True, "border": "reference",
    }  # fmt: skip
    assert tvm(drop=0.4).identity() != tvm().identity()


@pytest.mark.parametrize("drop", [0.5, 0.2])
def test_identity_values_are_dropped_in_every_channel_on_its_own(drop):
    images = torch.full((2, 3, 100, 100), 0.5)
    kept = tvm(drop=drop).kept(images, [5, 6])
    share, spread = 1 - drop, (drop * (1 - drop) / 1e4) ** 0.5
    assert float((kept.float().mean((2, 3)) - share).abs().max()) < 4 * spread
    planes = kept.flatten(0, 1).flatten(1).float() - share
    correlation = planes @ planes.T / 1e4 / (drop * share)
    assert float((correlation - torch.eye(6)).abs().max()) < 0.05
    assert torch.equal(kept[1:], tvm(drop=drop).kept(images[1:], [6]))


def test_identity_values_are_kept_where_they_are_black_or_nothing_is_dropped(natural_images):
    images = quantize(natural_images[:2])
    images[:, 1, :10] = 0
    assert bool(tvm(drop=0.9).kept(images, [1, 2])[:, 1, :10].all())
    assert not bool(tvm(drop=0.9).kept(images, [1, 2])[:, 0].all())
    assert bool(tvm(drop=0).kept(images, [1, 2]).all())


def test_agrees_with_split_bregman_on_what_is_kept(natural_images):
    images = quantize(natural_images[:3])
    for options in ({}, {"isotropic": False, "border": "renormalised", "weight": 0.1, "sweeps": 3, "tolerance": 0.02}):
        defense = tvm(**options)
        expected = SplitBregman(**options).solve(images, defense.kept(images, [1, 2, 3])).clamp(0, 1)
        assert torch.equal(defense.purify(images, seeds=[1, 2, 3]).images, expected)


def test_invariant_it_smooths(natural_images):
    images = quantize(natural_images)
    variation = [
        sum(batch.diff(dim=axis).abs().mean() for axis in (2, 3))
        for batch in (images, *(tvm(weight=weight).purify(images, seeds=range(24)).images for weight in (0.03, 0.2)))
    ]
    assert variation[0] > variation[1] > variation[2]


def test_certificate_the_exact_gradient_by_finite_differences(natural_images):
    images = natural_images[:3].double() * 0.999 + 5e-4  # no value is black, none is dropped at one end only
    images[0] = (images[0] * 1.2).clamp(0, 1)  # the result is clipped
    generator = torch.Generator().manual_seed(0)
    v, direction = (torch.randn(images.shape, dtype=torch.float64, generator=generator) for _ in range(2))
    defense, seeds = tvm(), [1, 2, 3]
    purified, pullback = defense.linearised("exact")(images, seeds)
    assert bool(((purified == 0) | (purified == 1)).any())
    ends = [defense.linearised("bpda")(images + sign * 1e-7 * direction, seeds)[0] for sign in (1, -1)]
    expected = ((ends[0] - ends[1]) / 2e-7 * v).flatten(1).sum(1)
    torch.testing.assert_close((pullback(v) * direction).flatten(1).sum(1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "images",
    [torch.rand(1, 1, 8, 8), torch.rand(3, 8, 8), torch.full((1, 3, 8, 8), torch.nan), torch.zeros(1, 3, 8, 8).int()],
)
def test_refuses_what_is_no_batch_of_images(images):
    with pytest.raises(TensorError):
        tvm().purify(images, seeds=[1])
