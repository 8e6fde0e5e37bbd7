import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stl_ray.csc import split_bands
from stl_ray.csc.bands import low_band_adjoint


def test_agrees_with_sporco(natural_images: Tensor) -> None:
    from sporco.signal import tikhonov_filter

    for images in (natural_images[:4], natural_images[:4, :, :27, :31], natural_images[:4, :, :9, :8]):
        low, high = split_bands(images)
        for image, ours, rest in zip(images, low, high, strict=True):
            theirs, their_rest = tikhonov_filter(image.permute(1, 2, 0).numpy(), 5, 16)
            np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), theirs, rtol=0, atol=1e-6)
            np.testing.assert_allclose(rest.permute(1, 2, 0).numpy(), their_rest, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(4, 40), st.integers(4, 40))
def test_identity_adjoint_of_the_low_band(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(height * 100 + width)
    a, b = torch.randn((2, 2, 3, height, width), dtype=torch.float64, generator=generator)
    torch.testing.assert_close((split_bands(a)[0] * b).sum(), (a * low_band_adjoint(b)).sum())


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_identity_flat_images_have_no_high_band(value: float) -> None:
    low, high = split_bands(torch.full((1, 3, 32, 32), value))
    torch.testing.assert_close(low, torch.full_like(low, value), rtol=0, atol=1e-6)
    assert high.abs().max() < 1e-6
