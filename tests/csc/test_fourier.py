from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_ray.csc.fourier import SHORT, irfft2, rfft2


@pytest.fixture(autouse=True)
def one_thread_again() -> Iterator[None]:
    yield
    torch.set_num_threads(1)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 225), st.integers(1, 225), st.sampled_from([torch.float32, torch.float64]))
def test_agrees_with_the_real_transforms_and_inverts(height: int, width: int, dtype: torch.dtype) -> None:
    images = torch.randn((2, 3, height, width), dtype=dtype, generator=torch.Generator().manual_seed(height * width))
    spectra = rfft2(images)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(spectra, torch.fft.rfft2(images), rtol=0, atol=tolerance)
    torch.testing.assert_close(irfft2(spectra, (height, width)), images, rtol=0, atol=tolerance / 100)


@pytest.mark.parametrize("shape", [(1, 3), (1, 64), (5, 3)])
def test_invariant_under_the_number_of_threads(shape: tuple[int, int]) -> None:
    for width in (8, 9, 13, 15, 16, 17, 27, 31, 32, 33, 48, SHORT, SHORT + 1, 96, 127):
        for height in {width, 2 * width // 3, 64}:
            images = torch.rand((*shape, height, width), generator=torch.Generator().manual_seed(width))
            results = []
            for threads in (1, 2):
                torch.set_num_threads(threads)
                spectra = rfft2(images)
                results.append((spectra, irfft2(spectra, (height, width))))
            for one, two in zip(*results, strict=True):
                assert torch.equal(one, two), (height, width)


def test_invariant_alone_and_in_a_batch() -> None:
    for size in (*range(8, 34), 47, 64, 65, 100, 225):
        images = torch.rand((3, 3, size, size), generator=torch.Generator().manual_seed(size))
        together = irfft2(rfft2(images), (size, size))
        for index in range(3):
            assert torch.equal(irfft2(rfft2(images[index : index + 1]), (size, size))[0], together[index])
