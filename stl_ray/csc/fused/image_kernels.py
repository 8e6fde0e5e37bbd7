"""Triton kernels of the `fused` method that touch images of C channels only; `map_kernels` has the larger ones.

Its remarks on blocks, relaxations and Triton's interpreter hold here too.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512
"""Pixels or frequencies of one block."""


@triton.jit
def _solve_kernel(bf, inverse, wf, relaxations, frequencies, blocks, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)
    if tl.load(relaxations + image) != 0:
        f = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
        inside = f < frequencies
        for c in tl.static_range(CHANNELS):
            real = tl.zeros((BLOCK,), tl.float32)
            imag = tl.zeros((BLOCK,), tl.float32)
            for e in tl.static_range(CHANNELS):
                left = inverse + 2 * ((c * CHANNELS + e) * frequencies + f)
                right = bf + 2 * ((image * CHANNELS + e) * frequencies + f)
                left_real, left_imag = tl.load(left, mask=inside, other=0.0), tl.load(left + 1, mask=inside, other=0.0)
                right_real = tl.load(right, mask=inside, other=0.0)
                right_imag = tl.load(right + 1, mask=inside, other=0.0)
                real += left_real * right_real - left_imag * right_imag
                imag += left_real * right_imag + left_imag * right_real
            out = wf + 2 * ((image * CHANNELS + c) * frequencies + f)
            tl.store(out, real, mask=inside)
            tl.store(out + 1, imag, mask=inside)


def solve_frequencies(bf: Tensor, inverse: Tensor, relaxations: Tensor) -> Tensor:
    """The products of C x C matrices (C, C, ...) with vectors (B, C, ...) at every frequency, complex64.

    As `ConvolutionOperator.solve`, without its (B, C, C, ...) intermediate.
    """
    bf = bf.contiguous()
    images, channels = bf.shape[:2]
    frequencies = bf[0, 0].numel()
    blocks = triton.cdiv(frequencies, BLOCK)
    wf = torch.zeros_like(bf)
    _solve_kernel[(images * blocks,)](
        torch.view_as_real(bf), torch.view_as_real(inverse), torch.view_as_real(wf), relaxations, frequencies, blocks,
        CHANNELS=channels, BLOCK=BLOCK,
    )  # fmt: skip
    return wf


@triton.jit
def _wrap_kernel(w, wrapped, height, width, high, wide, blocks, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    plane = (program // blocks).to(tl.int64)
    at = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = at < high * wide
    source = (at // wide) % height * width + at % wide % width
    values = tl.load(w + plane * height * width + source, mask=inside, other=0.0)
    tl.store(wrapped + plane * high * wide + at, values.to(wrapped.dtype.element_ty), mask=inside)


def wrap(w: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    """(B, C, H, W) float32 -> (B, C, H + S - 1, W + S - 1) of `dtype`, repeating below and to the right."""
    images, channels, height, width = w.shape
    high, wide = height + side - 1, width + side - 1
    wrapped = w.new_empty((images, channels, high, wide), dtype=dtype)
    blocks = triton.cdiv(high * wide, BLOCK)
    _wrap_kernel[(images * channels * blocks,)](w, wrapped, height, width, high, wide, blocks, BLOCK=BLOCK)
    return wrapped


@triton.jit
def _collect_kernel(
    rows,
    s,
    w,
    a,
    rhs,
    relaxations,
    rho,
    height,
    width,
    blocks,
    CHANNELS: tl.constexpr,
    SIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0)
    plane = program // blocks
    image = plane // CHANNELS
    relaxation = tl.load(relaxations + image)
    if relaxation != 0:
        pixels = height * width
        m = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
        inside = m < pixels
        row = m // width
        source = rows + image.to(tl.int64) * (CHANNELS * SIDE) * pixels + plane % CHANNELS * pixels
        b = tl.zeros((BLOCK,), tl.float32)
        for up in range(SIDE):
            shifted = m - up * width + tl.where(row < up, pixels, 0)
            b += tl.load(source + up * CHANNELS * pixels + shifted, mask=inside, other=0.0)
        at = plane.to(tl.int64) * pixels + m
        signal = tl.load(s + at, mask=inside, other=0.0)
        tracked = tl.load(a + at, mask=inside, other=0.0)
        tracked -= relaxation * rho * tl.load(w + at, mask=inside, other=0.0)
        tl.store(rhs + at, signal - 2 * b + tracked, mask=inside)
        tl.store(a + at, tracked + relaxation * (signal - b), mask=inside)


def collect(rows: Tensor, s: Tensor, w: Tensor, a: Tensor, rhs: Tensor, relaxations: Tensor, rho: float) -> None:
    """The right-hand side s - D v from the rows of D y, and D p carried along; images are (B, C, H, W) float32.

    With b = D y and a = D p: D v = 2 b - a, and since (rho I + D D^H) w = s - D v, the update of p moves a by
    alpha (D D^H w - D clip(p)) = alpha (s - b - rho w).

    Args:
        rows: (B, S C, H W).
        s: the signal.
        w: of the iteration that led to these rows.
        a: D p + alpha (s - D y) of the iterate before; becomes the same of this one.
        rhs: s - D v, written to.
        relaxations: (B,), alpha or 0.
        rho: the penalty.
    """
    images, channels, height, width = s.shape
    blocks = triton.cdiv(height * width, BLOCK)
    _collect_kernel[(images * channels * blocks,)](
        rows, s, w, a, rhs, relaxations, rho, height, width, blocks,
        CHANNELS=channels, SIDE=rows.shape[1] // channels, BLOCK=BLOCK,
    )  # fmt: skip
