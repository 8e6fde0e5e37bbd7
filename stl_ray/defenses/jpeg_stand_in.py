"""A JPEG codec in torch, which gradients of libjpeg's go through: Shin and Song 2017, JPEG-resistant adversarial images.

It is libjpeg's baseline codec at 4:2:0, as Pillow runs it: the colours of JFIF, the tables of ITU-T T.81, annex K, at a
quality, edges repeated up to whole blocks, and on the way back "fancy" upsampling, a triangle filter. What rounds
coefficients is an argument; samples are not rounded to whole levels on the way, which libjpeg does three times.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))  # 99 in what is left of the 8 x 8


SLOPE = 0.01
"""Least derivative of the rounding: the cubic alone has none at whole numbers, where every coefficient of a flat region is,
and of an image that was a JPEG before."""


def cubic_rounding(x: Tensor) -> Tensor:
    """round(x) + d^3 + `SLOPE` d with d = x - round(x): Shin and Song's, but for the slope, which keeps its derivative from zero."""
    nearest = x.detach().round()
    rest = x - nearest
    return nearest + rest**3 + SLOPE * rest


def transcoded(images: Tensor, quality: int, rounded: Callable[[Tensor], Tensor] = cubic_rounding) -> Tensor:
    """Images after JPEG.

    Args:
        images: (B, 3, H, W) of floats in [0, 1].
        quality: libjpeg's, 1 to 100.
        rounded: what takes the coefficients, in steps of their tables, to whole numbers: `torch.round`, or near it.

    Returns:
        (B, 3, H, W) in [0, 1] but for half a level of 255: what rounds to a level in range passes the gradient.
    """
    height, width = images.shape[-2:]
    red, green, blue = (255 * images).unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    luma_table, chroma_table = (table.to(images) for table in tables(quality))
    y = _coded(_repeated(_repeated(luma - 128, 1, 8), 2, 8), luma_table, rounded)[:, :height, :width]
    coded = (_coded(_halved(color), chroma_table, rounded) for color in ((blue - luma) / 1.772, (red - luma) / 1.402))
    halves = (plane[:, : (height + 1) // 2, : (width + 1) // 2] for plane in coded)
    cb, cr = (_doubled(_doubled(plane, 1), 2)[:, :height, :width] for plane in halves)
    colors = [y + 1.402 * cr, y - (0.114 * 1.772 * cb + 0.299 * 1.402 * cr) / 0.587, y + 1.772 * cb]
    return (torch.stack(colors, 1) + 128).clamp(-0.5, 255.5) / 255


def tables(quality: int) -> tuple[Tensor, Tensor]:
    """The steps of luma's and of chroma's coefficients, (8, 8) float64 each, rows the vertical frequency."""
    chroma = [[*row, 99, 99, 99, 99] for row in _CHROMA] + [[99] * 8] * 4
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma_table, chroma_table = (
        ((torch.tensor(base) * scale + 50) // 100).clamp(1, 255).double() for base in (_LUMA, chroma)
    )
    return luma_table, chroma_table


def _halved(color: Tensor) -> Tensor:
    """Means of 2 x 2, up to whole blocks: libjpeg repeats columns before the means, and rows after."""
    color = _repeated(_repeated(color, 2, 16), 1, 2)
    means = (color[:, ::2, ::2] + color[:, 1::2, ::2] + color[:, ::2, 1::2] + color[:, 1::2, 1::2]) / 4
    return _repeated(means, 1, 8)


def _repeated(x: Tensor, dim: int, multiple: int) -> Tensor:
    """The last row or column repeated up to a multiple."""
    missing = -x.shape[dim] % multiple
    return torch.cat([x, *[x.narrow(dim, -1, 1)] * missing], dim)


def _doubled(x: Tensor, dim: int) -> Tensor:
    """Twice the samples along a dimension: 3/4 of the nearer one and 1/4 of the other, which at the edge is itself."""
    before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, x.shape[dim] - 1)], dim)
    after = torch.cat([x.narrow(dim, 1, x.shape[dim] - 1), x.narrow(dim, -1, 1)], dim)
    return torch.stack([(3 * x + before) / 4, (3 * x + after) / 4], dim + 1).flatten(dim, dim + 1)


def _coded(x: Tensor, table: Tensor, rounded: Callable[[Tensor], Tensor]) -> Tensor:
    """Planes (B, 8 h, 8 w) by their DCT in steps of the table and back, clipped as samples are."""
    blocks = x.reshape(len(x), x.shape[1] // 8, 8, x.shape[2] // 8, 8)
    dct = _dct().to(x)
    steps = table[:, None, :]
    coefficients = torch.einsum("ui,bhiwj,vj->bhuwv", dct, blocks, dct)
    quantized = rounded(coefficients / steps) * steps
    return torch.einsum("ui,bhuwv,vj->bhiwj", dct, quantized, dct).flatten(3).flatten(1, 2).clamp(-128.5, 127.5)


def _dct() -> Tensor:
    """The orthonormal DCT-II of 8 samples, (8, 8) float64: rows are the frequencies."""
    frequency, sample = torch.arange(8.0, dtype=torch.float64)[:, None], torch.arange(8.0, dtype=torch.float64)
    basis = torch.cos(math.pi * frequency * (2 * sample + 1) / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis
