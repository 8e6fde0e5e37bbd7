from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stl_ray.csc import split_bands
from stl_ray.csc.bands import low_band_adjoint


@pytest.fixture(autouse=True)
def one_thread_again() -> Iterator[None]:
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("size", [(32, 32), (27, 31), (9, 8), (64, 64), (65, 100), (225, 113)])
def test_agrees_with_sporco(natural_images: Tensor, size: tuple[int, int]) -> None:
    from sporco.signal import tikhonov_filter

    images = natural_images[:4].repeat(1, 1, 8, 8)[..., : size[0], : size[1]]
    low, high = split_bands(images)
    for image, ours, rest in zip(images, low, high, strict=True):
        theirs, their_rest = tikhonov_filter(image.permute(1, 2, 0).numpy(), 5, 16)
        np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), theirs, rtol=0, atol=1e-6)
        np.testing.assert_allclose(rest.permute(1, 2, 0).numpy(), their_rest, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 225), st.integers(4, 225), st.sampled_from([1, 3]))
def test_identity_adjoint_of_the_low_band(height: int, width: int, channels: int) -> None:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    a, b = torch.randn((2, 2, channels, height, width), dtype=torch.float64, generator=generator)
    left, right = (split_bands(a)[0] * b).sum(), (a * low_band_adjoint(b)).sum()
    torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-10)


def test_identity_the_split_is_not_self_adjoint() -> None:
    """Or the adjoint would need no test."""
    a = torch.randn((1, 1, 12, 12), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (split_bands(a)[0] - low_band_adjoint(a)).abs().max() > 1e-6


@pytest.mark.parametrize("function", [lambda images: split_bands(images)[0], low_band_adjoint])
@pytest.mark.parametrize("size", [(8, 8), (15, 16), (32, 32), (33, 64), (64, 64), (224, 225)])
def test_invariant_alone_in_a_batch_shuffled_and_on_two_threads(function, size: tuple[int, int]) -> None:
    images = torch.rand((5, 3, *size), generator=torch.Generator().manual_seed(size[0]))
    together = function(images)
    order = torch.tensor([3, 0, 4, 1, 2])
    for threads in (1, 2):
        torch.set_num_threads(threads)
        assert torch.equal(function(images), together)
        assert torch.equal(function(images[order]), together[order])
        assert torch.equal(torch.cat([function(image[None]) for image in images]), together)
        assert torch.equal(function(images.contiguous(memory_format=torch.channels_last)), together)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_identity_flat_images_have_no_high_band(value: float) -> None:
    low, high = split_bands(torch.full((1, 3, 32, 32), value))
    torch.testing.assert_close(low, torch.full_like(low, value), rtol=0, atol=1e-6)
    assert high.abs().max() < 1e-6
