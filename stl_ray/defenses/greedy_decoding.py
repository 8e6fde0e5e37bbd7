"""Greedy decoding near an image: value by value the likeliest level, given those that were chosen before it.

What the network computed of earlier pixels is kept: a row of pixels costs the upper stack one row of every layer, a pixel the
stack to the left one column, whatever the size of the image. Chosen values, not those of the image, are what the network sees
of the pixels before.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stl_ray.defenses.logistic_mixture import Mixtures, bounds_of, scaled
from stl_ray.defenses.pixel_cnn import PixelCnn, with_ones


@torch.no_grad()
def decoded(network: PixelCnn, levels: Tensor, reach: int) -> Tensor:
    """The levels that are chosen, row by row, in a row from the left, of a pixel red, green, blue.

    Args:
        network: whose probabilities decide; on the levels' device and of their type.
        levels: (B, 3, H, W) of images, whole numbers 0 to 255.
        reach: how far a chosen level may lie from the image's; of equally likely ones it is the lowest.
    """
    chosen = torch.empty_like(levels)
    above, left = _Above(network, levels), _Left(network)
    steps = torch.arange(-reach, reach + 1, device=levels.device, dtype=levels.dtype)
    for row in range(levels.shape[2]):
        # (W, B, 3, V): a pixel's are contiguous. Levels beyond 0 and 255 are those again.
        candidates = (levels[:, :, row].movedim(2, 0).unsqueeze(-1) + steps).clamp(0, 255)
        lower, upper = bounds_of(candidates)
        left.begin(above.next(chosen[:, :, row - 1] if row else None))
        pixel = None
        for column in range(levels.shape[3]):
            mixtures = Mixtures.of(left.next(pixel))
            pixel = _likeliest(mixtures, candidates[column], lower[column], upper[column])
            chosen[:, :, row, column] = pixel
    return chosen


def _likeliest(mixtures: Mixtures, candidates: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The likeliest (B, 3) of the candidates (B, 3, V) of a pixel."""
    levels: list[Tensor] = []
    for channel in range(3):
        values = [scaled(level) for level in levels]
        likely = mixtures.log_probabilities((lower[:, channel], upper[:, channel]), channel, values)
        levels.append(candidates[:, channel].gather(1, likely.argmax(1, keepdim=True))[:, 0])
    return torch.stack(levels, 1)


class _Above:
    """The upper stack, row by row.

    Args:
        network: of it.
        levels: (B, 3, H, W), for their size.
    """

    def __init__(self, network: PixelCnn, levels: Tensor) -> None:
        self._network = network
        count, _, _, width = levels.shape
        # The last two rows of what enters each convolution, with its borders.
        sizes = (4, *(layer.above.in_channels for layer in network.layers))
        self._rows = [levels.new_zeros(count, size, 2, width + 2) for size in sizes]

    def next(self, before: Tensor | None) -> list[Tensor]:
        """What the stack to the left gets of it in the next row: (W, B, width), then (W, B, 2 width) of every layer.

        Args:
            before: (B, 3, W), the levels of the row before; None in the first row.
        """
        pixels, *rows = self._rows
        if before is not None:
            _shift(pixels, with_ones(before))
        above = self._network.above(pixels)
        across = [_by_column(above, self._network.left)]
        for layer, kept in zip(self._network.layers, rows, strict=True):
            _shift(kept, above[:, :, 0])
            above = above + F.glu(layer.above(kept), 1)
            across.append(_by_column(layer.across(above), layer.left))
        return across


def _by_column(row: Tensor, left: nn.Conv2d) -> Tensor:
    """A row (B, C, 1, W) as (W, B, C), with the bias of the convolution to which it is added."""
    return (row[:, :, 0] + left.get_parameter("bias")[:, None]).permute(2, 0, 1).contiguous()


def _shift(rows: Tensor, row: Tensor) -> None:
    """Put a row (B, C, W) below the other of two rows (B, C, 2, W + 2)."""
    rows[:, :, 0] = rows[:, :, 1].clone()
    rows[:, :, 1, 1:-1] = row


class _Left:
    """The stack to the left, pixel by pixel: its convolutions as products with matrices.

    Args:
        network: of it.
    """

    def __init__(self, network: PixelCnn) -> None:
        self._first = _matrix(network.left.weight)
        self._layers = [_matrix(layer.left.weight) for layer in network.layers]
        self._output, self._output_bias = _matrix(network.output.weight), network.output.get_parameter("bias")

    def begin(self, across: list[Tensor]) -> None:
        """Begin a row.

        Args:
            across: what it gets of the upper stack in that row.
        """
        self._across, self._column = across, 0
        # The last pixel, and what entered each layer with it; the border is 0.
        first, *layers = across
        self._pixel = first.new_zeros(first.shape[1], 4)
        self._window = torch.cat([self._pixel, self._pixel], 1)
        self._entered = [torch.zeros_like(first[0])] * len(layers)

    def next(self, before: Tensor | None) -> Tensor:
        """The numbers (B, 10 K) of the mixture of the next pixel.

        Args:
            before: (B, 3), the levels of the pixel before; None in the first column.
        """
        if before is not None:
            pixel = with_ones(before)
            self._window, self._pixel = torch.cat([self._pixel, pixel], 1), pixel
        first, *layers = self._across
        x = torch.addmm(first[self._column], self._window, self._first)
        for number, (matrix, across) in enumerate(zip(self._layers, layers, strict=True)):
            window = torch.cat([self._entered[number], x], 1)
            self._entered[number] = x
            x = x + F.glu(torch.addmm(across[self._column], window, matrix), 1)
        self._column += 1
        return torch.addmm(self._output_bias, x, self._output)


def _matrix(weight: Tensor) -> Tensor:
    """The weight (out, in, 1, k) of a convolution over columns as a matrix (k in, out)."""
    return weight.permute(3, 1, 2, 0).flatten(0, 2).contiguous()
