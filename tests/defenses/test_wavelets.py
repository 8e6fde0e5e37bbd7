import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr, ycbcr2rgb

from stl_ray.defenses import make_defense
from stl_ray.defenses.wavelets import denoised, haar, inverse_haar
from stl_ray.images import quantize
from stl_ray.metrics import psnr

SIZES = [(32, 32), (8, 8), (9, 8), (21, 34), (65, 40)]


def wavelet(**options):
    return make_defense("wavelet", options, {})


def resized(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return quantize(torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1))


def as_in_2018(image: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W, 3) in [0, 1] by PyWavelets: channels of YCbCr scaled to [0, 1], sigma as given there, soft BayesShrink, back."""
    pywt = pytest.importorskip("pywt")
    channels = rgb2ycbcr(image)
    for index in range(3):
        channel = channels[..., index]
        low, high = channel.min(), channel.max()
        scaled = (channel - low) / (high - low)
        levels = max(min(pywt.dwt_max_level(size, 2) for size in scaled.shape) - 3, 1)
        coarse, *levels_of_details = pywt.wavedec2(scaled, "db1", level=levels)
        shrunk = [coarse]
        for details in levels_of_details:
            bands = []
            for band in details:
                signal = np.sqrt(max(np.mean(band**2) - sigma**2, np.finfo(np.float64).eps))
                bands.append(pywt.threshold(band, sigma**2 / signal, mode="soft"))
            shrunk.append(tuple(bands))
        denoised = pywt.waverec2(shrunk, "db1")[: scaled.shape[0], : scaled.shape[1]]
        channels[..., index] = np.clip(denoised, 0, 1) * (high - low) + low
    return np.clip(ycbcr2rgb(channels), 0, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sigma", [0.04, 0.15])
def test_agrees_with_pywavelets_by_the_rules_of_2018(natural_images, size, sigma):
    images = resized(natural_images[::5], size)
    ours = denoised(images.double(), sigma)
    for image, expected in zip(images, ours, strict=True):
        reference = as_in_2018(image.permute(1, 2, 0).double().numpy(), sigma)
        # Two orders of additions in float64, on values up to 255.
        np.testing.assert_allclose(expected.permute(1, 2, 0).numpy(), reference, rtol=0, atol=1e-10)


def test_agrees_with_scikit_image_where_its_scale_of_sigma_is_one(natural_images):
    """Of a channel alone, in [0, 1], the library of today takes sigma as it is given too."""
    pytest.importorskip("pywt")
    from skimage.restoration import denoise_wavelet

    from stl_ray.defenses.wavelets import shrunk

    channels = natural_images[:4].double()
    for image, expected in zip(channels, shrunk(channels, 0.1), strict=True):
        for channel, ours in zip(image, expected, strict=True):
            reference = denoise_wavelet(channel.numpy(), sigma=0.1, rescale_sigma=False)
            np.testing.assert_allclose(ours.numpy(), reference, rtol=0, atol=1e-12)


def test_identity_stronger_noise_is_shrunk_more(natural_images):
    images = quantize(natural_images)
    ratios = [psnr(wavelet(sigma=sigma).purify(images, seeds=range(24)).images, images) for sigma in (0.01, 0.04, 0.2)]
    assert bool((ratios[0] > ratios[1]).all())
    assert bool((ratios[1] > ratios[2]).all())


def test_identity_in_float32_it_is_the_same_but_for_rounding(natural_images):
    images = resized(natural_images, (64, 64))
    difference = denoised(images, 0.04).double() - denoised(images.double(), 0.04)
    # Some units in the last place of 255, times the largest factor of the way back, 255 / 112; thresholds add their own.
    assert float(difference.abs().max()) < 2e-5


def test_agrees_a_denoised_image_is_nearer_to_what_the_noise_was_added_to():
    """A smooth image under noise of sigma comes nearer to itself."""
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64).contiguous()
    noisy = (ramp + 0.04 * torch.randn(ramp.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert float(psnr(denoised(noisy, 0.04), ramp)) > float(psnr(noisy, ramp))


@pytest.mark.parametrize("size", [*SIZES, (2, 2), (3, 5), (224, 224)])
def test_roundtrip_haar(size):
    channels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    averages, details = haar(channels)
    torch.testing.assert_close(inverse_haar(averages, details, channels.shape[-2:]), channels, rtol=0, atol=1e-14)
    if size[0] % 2 == size[1] % 2 == 0:  # orthonormal
        torch.testing.assert_close(averages.square().sum() + details.square().sum(), channels.square().sum())


def test_identity_flat_channels_stay(natural_images):
    grey = quantize(natural_images.mean(1, keepdim=True)).expand(-1, 3, -1, -1)
    purified = wavelet().purify(grey, seeds=range(24)).images
    assert float((purified - purified.mean(1, keepdim=True)).abs().max()) < 1e-6
    flat = torch.full((1, 3, 16, 16), 0.6)
    torch.testing.assert_close(wavelet().purify(flat, seeds=[0]).images, flat)


def test_agrees_the_gradient_with_finite_differences(natural_images):
    generator = torch.Generator().manual_seed(0)
    images = (0.1 + 0.8 * natural_images[:3].double()) + 0.01 * torch.rand((3, 3, 32, 32), generator=generator)
    direction, v = (torch.randn(images.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    output, pullback = wavelet().linearised("exact")(images, [0, 1, 2])
    step = 1e-7
    moved = [denoised(images + sign * step * direction, 0.04) for sign in (1, -1)]
    expected = ((moved[0] - moved[1]) / (2 * step) * v).sum((1, 2, 3))
    got = (pullback(v) * direction).sum((1, 2, 3))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(output, denoised(images, 0.04))


def test_invariant_bits_in_any_batch_at_a_size_that_is_split(natural_images):
    images = resized(natural_images[:5], (130, 171))
    whole = wavelet().purify(images, seeds=range(5)).images
    for row in range(5):
        assert torch.equal(wavelet().purify(images[row : row + 1], seeds=[row]).images[0], whole[row])
