import pytest
import torch

from stl_ray.defenses.pixel_cnn import FittedPixelCnn, PixelCnn
from stl_ray.defenses.pixel_defend import TILE, PixelDefend, PixelDefendOptions
from stl_ray.errors import TensorError
from stl_ray.images import quantize
from stl_ray.models import seeded


@pytest.fixture(scope="module")
def pixel_cnn() -> FittedPixelCnn:
    return FittedPixelCnn.of(seeded(lambda: PixelCnn(8, 2, 2), 0).state_dict())


def test_invariant_alone_and_in_any_place_of_any_tile():
    """Of the width that is the default, since the kernel of a product goes by its size."""
    options = PixelDefendOptions()
    wide = seeded(lambda: PixelCnn(options.width, 1, options.mixtures), 0)
    defense = PixelDefend(FittedPixelCnn.of(wide.state_dict()), 3)
    images = quantize(torch.rand(2 * TILE + 3, 3, 5, 6, generator=torch.Generator().manual_seed(0)))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    whole = defense.purify(images, seeds=[0] * len(images)).images
    assert torch.equal(defense.purify(images[order], seeds=[0] * len(images)).images, whole[order])
    for row in (0, TILE + 1, 2 * TILE + 2):
        assert torch.equal(defense.purify(images[row : row + 1], seeds=[0]).images, whole[row : row + 1])


def test_invariant_within_reach_of_the_image_on_the_grid(natural_images, pixel_cnn):
    images = natural_images[:3, :, :9, :10] * 0.99 + 0.001  # between levels
    for reach in (1, 16):
        purified = PixelDefend(pixel_cnn, reach).purify(images, seeds=[0] * 3).images
        assert torch.equal(purified, quantize(purified)) and not torch.equal(purified, quantize(images))
        assert float(((purified - quantize(images)) * 255).abs().max()) <= reach + 1e-3
        assert torch.equal(purified, PixelDefend(pixel_cnn, reach).purify(quantize(images), seeds=[0] * 3).images)


def test_identity_has_the_network_and_the_reach(pixel_cnn):
    assert PixelDefend(pixel_cnn, 16).identity() == {
        "defense": "pixel_defend", "pixel_cnn": pixel_cnn.digest, "eps_defend": 16,
    }  # fmt: skip


def test_identity_defenses_of_another_reach_share_the_network():
    near, far = (PixelDefendOptions(eps_defend=reach) for reach in (8, 16))
    assert near.recipe == far.recipe != PixelDefendOptions(width=8).recipe


def test_refuses_what_is_no_batch_of_images(natural_images, pixel_cnn):
    defense = PixelDefend(pixel_cnn, 16)
    for images in (natural_images[:1, :1], natural_images[0], natural_images[:0], natural_images[:1] * torch.nan):
        with pytest.raises(TensorError):
            defense.purify(images, seeds=[0])
