import numpy as np
import pytest
import torch

from stl_ray.errors import TensorError
from stl_ray.images import from_uint8, quantize, snapped, to_tensor, to_uint8

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)


def test_roundtrip_every_level():
    tensor = to_tensor([LEVELS, LEVELS[::-1]])
    assert tensor.shape == (2, 3, 16, 16) and tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert tensor.min() == 0 and tensor.max() == 1
    assert np.array_equal(to_uint8(tensor), np.stack([LEVELS, LEVELS[::-1]]))


def test_agrees_from_uint8_with_exact_division():
    levels = torch.from_numpy(LEVELS).permute(2, 0, 1)[None]
    images = from_uint8(levels)
    assert torch.equal(images, (levels.double() / 255).float())
    assert torch.equal(images, to_tensor([LEVELS]))


def test_identity_quantize_is_storing_and_reading_back(natural_images):
    noisy = natural_images + 0.3 * torch.randn(natural_images.shape, generator=torch.Generator().manual_seed(0))
    assert noisy.min() < 0 and noisy.max() > 1
    quantized = quantize(noisy)
    assert torch.equal(quantized, to_tensor(list(to_uint8(noisy))))
    assert torch.equal(quantize(quantized), quantized)
    assert (quantized - noisy.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6


def test_identity_rounds_half_to_even():
    images = (torch.tensor([0.5, 1.5, 2.5, 254.5], dtype=torch.float64) / 255).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert to_uint8(images)[0, :, :, 0].flatten().tolist() == [0, 2, 2, 254]


def test_invariant_quantize_of_an_image_alone_and_in_a_batch(natural_images):
    alone = torch.cat([quantize(image[None]) for image in natural_images])
    assert torch.equal(quantize(natural_images), alone)


def test_identity_quantize_keeps_nan_in_sight():
    assert quantize(torch.tensor([float("nan")])).isnan().all()


@pytest.mark.gpu
def test_agrees_between_cpu_and_gpu():
    levels = (torch.arange(0, 256 * 8, dtype=torch.float32) / 8 / 255).reshape(1, 1, -1).expand(1, 3, -1)[..., None]
    assert torch.equal(quantize(levels.cuda()).cpu(), quantize(levels))
    stored = torch.from_numpy(LEVELS).permute(2, 0, 1)[None]
    assert torch.equal(from_uint8(stored.cuda()).cpu(), from_uint8(stored))


@pytest.mark.parametrize(
    "images",
    [
        [],
        [LEVELS, LEVELS[:8]],
        [LEVELS[..., 0]],
        [LEVELS.astype(np.float32)],
        [np.dstack([LEVELS, LEVELS[..., :1]])],
    ],
)
def test_refuses_to_stack(images):
    with pytest.raises(TensorError):
        to_tensor(images)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_to_store_what_is_not_finite(value):
    images = torch.zeros(1, 3, 8, 8)
    images[0, 1, 2, 3] = value
    with pytest.raises(TensorError):
        to_uint8(images)


def test_refuses_to_store_other_shapes():
    with pytest.raises(TensorError):
        to_uint8(torch.zeros(3, 8, 8))


@pytest.mark.parametrize(
    "images", [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8).byte(), torch.zeros(1, 8, 8, 3).byte()]
)
def test_refuses_to_read_what_is_not_stored_pixels(images):
    with pytest.raises(TensorError, match="stored RGB"):
        from_uint8(images)


@pytest.mark.parametrize("scaled", [lambda levels: levels * (1 / 255), lambda levels: (levels / 256) * (256 / 255)])
def test_identity_images_that_are_off_the_grid_by_rounding_are_on_it(scaled):
    levels = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    off = scaled(levels)
    assert not torch.equal(off, quantize(off))
    assert torch.equal(snapped(off, ["a"]), levels / torch.tensor(255.0))


@pytest.mark.parametrize(("value", "how_far"), [(0.3, r"0\.002 off"), (1.25, r"0\.25 off"), (float("nan"), "inf off")])
def test_refuses_images_off_the_grid_by_more_with_the_name_of_the_farthest(value, how_far):
    images = torch.zeros(3, 3, 8, 8)
    images[0, 0, 0, 0], images[1, 1, 2, 3] = 2e-6, value
    with pytest.raises(TensorError, match=how_far) as caught:
        snapped(images, ["a", "b", "c"])
    assert caught.value.item == "b"
