import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from stl_ray.metrics import dissimilarity, l2_norm, linf, psnr


@pytest.fixture
def pair(natural_images) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.randn(natural_images.shape, generator=torch.Generator().manual_seed(0))
    return (natural_images + 0.1 * noise).clamp(0, 1), natural_images


def test_agrees_norms_with_numpy(pair):
    images, reference = (tensor.numpy().reshape(24, -1).astype(np.float64) for tensor in pair)
    difference = images - reference
    expected = np.linalg.norm(difference, axis=1) / np.linalg.norm(reference, axis=1)
    np.testing.assert_allclose(dissimilarity(*pair), expected, rtol=1e-5)
    np.testing.assert_allclose(l2_norm(pair[0]), np.linalg.norm(images, axis=1), rtol=1e-5)
    np.testing.assert_allclose(linf(*pair), np.abs(difference).max(axis=1), rtol=1e-6)


def test_agrees_psnr_with_scikit_image(pair):
    expected = [peak_signal_noise_ratio(r.numpy(), i.numpy(), data_range=1) for i, r in zip(*pair, strict=True)]
    np.testing.assert_allclose(psnr(*pair), expected, rtol=1e-5)


def test_invariant_distances_follow_the_scale_of_the_images(pair):
    levels = tuple((tensor * 255).round().double() for tensor in pair)
    scaled = tuple(tensor / 255 for tensor in levels)
    torch.testing.assert_close(dissimilarity(*levels), dissimilarity(*scaled))
    torch.testing.assert_close(linf(*levels), 255 * linf(*scaled))
    torch.testing.assert_close(l2_norm(levels[0]), 255 * l2_norm(scaled[0]))


def test_identity_equal_and_black_images():
    black, white = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    assert dissimilarity(black, black).tolist() == [0]
    assert dissimilarity(white, white).tolist() == [0]
    assert dissimilarity(white, black).tolist() == [float("inf")]
    assert dissimilarity(black, white).tolist() == [1]
    assert psnr(white, white).tolist() == [float("inf")]
    assert psnr(white, black).tolist() == [0]
