"""Triton kernels of the `fused` method that touch the K maps, and their launchers; `forms` puts them together.

Maps lie as (B, H W, K') with the filter last and K' = K padded by zero filters, so that a tile of pixels by filters is
both a block of memory and an operand of a matrix product. No kernel uses atomics, no block of the grid belongs to two
images and the tile sizes are constants: an image comes out in the same bytes on every run and in every batch. Blocks of
an image whose relaxation is 0 return at once, which freezes it.

Under `TRITON_INTERPRET=1`, set before triton is imported, everything here runs on CPU tensors.
"""

# Triton has no types, and reads the annotations of its kernels itself.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, disable-error-code="no-any-return"

import torch
import triton
import triton.language as tl
from torch import Tensor

from stl_ray.csc.fused.image_kernels import wrap

FLAT = 4096
"""Coefficients of one block of the pointwise kernel."""

PIXELS = 64
"""Pixels of one block of the correlation: one product of Hopper's smallest height; divides 32^2, 64^2, 128^2, 224^2."""

SHIFTED_PIXELS = 128
"""Pixels of one block of the synthesis, which holds no p and has registers for more."""

FILTERS = 64
"""Filters of one block at most; fewer where there are fewer."""

TAPS = 32
"""Taps (c, a, b) gathered at once by the correlation."""

CORRELATION = {"num_warps": 4, "num_stages": 2}
"""Bound by the traffic of p, of which every block asks for 16 KB first. Compiled for Hopper it takes 168 registers, so
that three blocks share a multiprocessor; with 128 pixels and 8 warps only one would."""

SYNTHESIS = {"num_warps": 4, "num_stages": 3}
"""Bound by loads of y out of the L1 and L2 caches: copies of two shifts run ahead of the product. Compiled for Hopper
it takes 61 KB of shared memory: three blocks on a multiprocessor."""


def padded_filters(count: int) -> int:
    """K', the number of filters that the maps of `count` filters are stored for."""
    return triton.cdiv(count, FILTERS) * FILTERS if count > FILTERS else max(16, triton.next_power_of_2(count))


def norm_blocks(pixels: int, filters: int) -> int:
    """Number of partial norms that `correlate_and_update` writes for one image."""
    return triton.cdiv(pixels, PIXELS) * (filters // min(filters, FILTERS))


@triton.jit
def _store_norms(norms, index, r, y):
    """The largest |r| and the sums of r^2 and y^2 of one block; blocks are put together outside, in a fixed order."""
    tl.store(norms + 3 * index, tl.max(tl.abs(r)))
    tl.store(norms + 3 * index + 1, tl.sum(r * r))
    tl.store(norms + 3 * index + 2, tl.sum(y * y))


@triton.jit
def _update_kernel(p_in, x_and_v, p_out, norms, relaxations, threshold, size, blocks, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    image = program // blocks
    relaxation = tl.load(relaxations + image)
    if relaxation != 0:
        offsets = (program % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = offsets < size
        at = image.to(tl.int64) * size + offsets
        p = tl.load(p_in + at, mask=inside, other=0.0)
        x = tl.load(x_and_v + at, mask=inside, other=0.0)
        u = tl.minimum(tl.maximum(p, -threshold), threshold)
        r = x - u
        _store_norms(norms, program, r, p - u)
        p += relaxation * r
        u = tl.minimum(tl.maximum(p, -threshold), threshold)
        tl.store(p_out + at, p, mask=inside)
        tl.store(x_and_v + at, p - 2 * u, mask=inside)


def update(p_in: Tensor, x_and_v: Tensor, p_out: Tensor, relaxations: Tensor, threshold: float) -> Tensor:
    """The whole pointwise part of an iteration: reads p and D^T w, writes the next p and, over D^T w, the next v.

    Args:
        p_in: (B, ...) float32, contiguous, as the next two.
        x_and_v: D^T w; becomes v = p - 2 clip(p).
        p_out: the next p.
        relaxations: (B,) float32.
        threshold: lambda / rho.

    Returns:
        (B, blocks, 3): max |r|, sum r^2, sum y^2 for r = D^T w - clip(p) and y = p - clip(p), both before the update.
    """
    size = p_in[0].numel()
    blocks = triton.cdiv(size, FLAT)
    norms = p_in.new_zeros((p_in.shape[0], blocks, 3))
    _update_kernel[(p_in.shape[0] * blocks,)](
        p_in, x_and_v, p_out, norms, relaxations, threshold, size, blocks, BLOCK=FLAT, num_warps=8
    )
    return norms


@triton.jit
def _correlation_kernel(
    wrapped,
    filters,
    p_in,
    p_out,
    y_out,
    norms,
    relaxations,
    threshold,
    pixels,
    width,
    high,
    wide,
    blocks,
    CHANNELS: tl.constexpr,
    SIDE: tl.constexpr,
    ROWS: tl.constexpr,
    MAPS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)
    relaxation = tl.load(relaxations + image)
    if relaxation != 0:
        # Where p lies; it is asked for first, so that it travels while the product runs.
        m = (program % blocks) * BLOCK_M + tl.arange(0, BLOCK_M)
        k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
        inside = m < pixels
        at = image * pixels * MAPS + m.to(tl.int64)[:, None] * MAPS + k[None, :]
        p = tl.load(p_in + at, mask=inside[:, None], other=0.0).to(tl.float32)
        # D^T w as a product of pixels x taps and taps x filters; the left operand is gathered, never stored.
        corner = tl.where(inside, m // width * wide + m % width, 0)
        source = wrapped + image * CHANNELS * high * wide
        x = tl.zeros((BLOCK_M, BLOCK_K), tl.float32)
        for first in range(0, ROWS, BLOCK_R):
            r = first + tl.arange(0, BLOCK_R)
            offset = r // (SIDE * SIDE) * high * wide + r // SIDE % SIDE * wide + r % SIDE
            offset = tl.where(r < CHANNELS * SIDE * SIDE, offset, 0)  # rows of padding, zero on the right
            left = tl.load(source + corner[:, None] + offset[None, :])
            right = tl.load(filters + r[:, None] * MAPS + k[None, :])
            x = tl.dot(left, right, x, input_precision="tf32")
        u = tl.minimum(tl.maximum(p, -threshold), threshold)
        residual = tl.where(inside[:, None], x - u, 0.0)
        _store_norms(norms, program * tl.num_programs(1) + tl.program_id(1), residual, p - u)
        p += relaxation * residual
        tl.store(p_out + at, p.to(p_out.dtype.element_ty), mask=inside[:, None])
        y = p - tl.minimum(tl.maximum(p, -threshold), threshold)
        tl.store(y_out + at, y.to(y_out.dtype.element_ty), mask=inside[:, None])


def correlate_and_update(
    w: Tensor,
    filters: Tensor,
    side: int,
    p_in: Tensor,
    p_out: Tensor,
    y_out: Tensor,
    relaxations: Tensor,
    threshold: float,
) -> Tensor:
    """D^T w and the whole pointwise part of an iteration: reads p, writes the next p and the next y, and no other map.

    Args:
        w: (B, C, H, W) float32.
        filters: (C S S padded to TAPS, K') as `by_taps` makes them; their type is that of the product's operands.
        side: S.
        p_in: (B, H W, K') float32 or float16.
        p_out: the next p.
        y_out: the next y, of the type of `filters`.
        relaxations: (B,) float32.
        threshold: lambda / rho.

    Returns:
        Norms as those that `update` returns.
    """
    images, channels, _, width = w.shape
    pixels, maps = p_in.shape[1:]
    wrapped = wrap(w, side, filters.dtype)
    blocks, block_k = triton.cdiv(pixels, PIXELS), min(maps, FILTERS)
    norms = w.new_zeros((images, norm_blocks(pixels, maps), 3))
    _correlation_kernel[(images * blocks, maps // block_k)](
        wrapped, filters, p_in, p_out, y_out, norms, relaxations, threshold, pixels, width, *wrapped.shape[2:], blocks,
        CHANNELS=channels, SIDE=side, ROWS=filters.shape[0], MAPS=maps,
        BLOCK_M=PIXELS, BLOCK_K=block_k, BLOCK_R=TAPS, **CORRELATION,
    )  # fmt: skip
    return norms


def by_taps(filters: Tensor, dtype: torch.dtype) -> Tensor:
    """(K, C, S, S) -> (taps c a b padded to TAPS, K'), the right operand of the correlation."""
    taps = filters[0].numel()
    operand = filters.new_zeros((triton.cdiv(taps, TAPS) * TAPS, padded_filters(len(filters))), dtype=dtype)
    operand[:taps, : len(filters)] = filters.flatten(1).T
    return operand


@triton.jit
def _rows_kernel(
    y,
    filters,
    rows,
    relaxations,
    pixels,
    width,
    blocks,
    OUTPUTS: tl.constexpr,
    SIDE: tl.constexpr,
    MAPS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)
    if tl.load(relaxations + image) != 0:
        m = (program % blocks) * BLOCK_M + tl.arange(0, BLOCK_M)
        inside = m < pixels
        column = m % width
        n = tl.arange(0, BLOCK_N)
        source = y + image * pixels * MAPS
        partial = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for step in range(SIDE * (MAPS // BLOCK_K)):
            b = step % SIDE
            k = step // SIDE * BLOCK_K + tl.arange(0, BLOCK_K)
            shifted = tl.where(inside, m - b + tl.where(column < b, width, 0), 0)
            left = tl.load(source + shifted.to(tl.int64)[:, None] * MAPS + k[None, :])
            right = tl.load(filters + (b * MAPS + k)[:, None] * BLOCK_N + n[None, :])
            partial = tl.dot(left, right, partial, input_precision=PRECISION)
        at = image * pixels * OUTPUTS + n.to(tl.int64)[None, :] * pixels + m[:, None]
        tl.store(rows + at, partial, mask=inside[:, None] & (n < OUTPUTS)[None, :])


def synthesize_rows(
    y: Tensor, filters: Tensor, channels: int, width: int, rows: Tensor, relaxations: Tensor, precision: str = "tf32"
) -> None:
    """The horizontal half of D y: rows[a, c](i, j) = sum over k and b of d[k, c, a, b] y_k(i, j - b).

    Padding C outputs to the 16 of a matrix product would waste four fifths of it, and y would be gathered S^2 times;
    the C S outputs of one row of a filter fill it, and y is gathered S times. `collect` adds the rows up.

    Args:
        y: (B, H W, K').
        filters: (S, K', a c padded) as `by_columns` makes them, of the type of y.
        channels: C.
        width: W.
        rows: (B, S C, H W) float32, written to.
        relaxations: (B,) float32; images at 0 are left as they are.
        precision: of the product where y is float32, a name of Triton's.
    """
    images, pixels, maps = y.shape
    blocks = triton.cdiv(pixels, SHIFTED_PIXELS)
    _rows_kernel[(images * blocks,)](
        y, filters, rows, relaxations, pixels, width, blocks,
        OUTPUTS=channels * len(filters), SIDE=len(filters), MAPS=maps,
        BLOCK_M=SHIFTED_PIXELS, BLOCK_K=min(maps, FILTERS), BLOCK_N=filters.shape[2], PRECISION=precision, **SYNTHESIS,
    )  # fmt: skip


def by_columns(filters: Tensor, dtype: torch.dtype) -> Tensor:
    """(K, C, S, S) -> (S columns, K', outputs a c padded to a power of two), the right operand of `synthesize_rows`."""
    count, channels, side, _ = filters.shape
    outputs = max(16, triton.next_power_of_2(side * channels))
    operand = filters.new_zeros((side, padded_filters(count), outputs), dtype=dtype)
    operand[:, :count, : side * channels] = filters.permute(3, 0, 2, 1).flatten(2)
    return operand
