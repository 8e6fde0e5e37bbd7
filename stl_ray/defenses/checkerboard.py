"""Planes of pixels as a checkerboard of two flat arrays, for solvers that update one colour from the other.

A plane of H x W pixels is laid out in rows of an odd length, the pitch, with at least one pad behind every row and a row
of pads behind the last. Pixel (r, c) is at the address r pitch + c, whose parity is that of r + c: the even addresses are
the pixels of one colour, the odd ones those of the other, and the neighbours of all pixels of one colour are the other
colour's array, shifted by one of four constants. Pads are zero, which is then what lies beyond the border.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

RIGHT, LEFT, BELOW, ABOVE = range(4)
"""The directions of a pixel's neighbours."""


@dataclass(frozen=True)
class Checkerboard:
    """The layout of planes of one size.

    Args:
        height: pixels.
        width: pixels.
    """

    height: int
    width: int

    @property
    def pitch(self) -> int:
        """Addresses from one row to the next."""
        return self.width + 1 + self.width % 2

    @property
    def cells(self) -> int:
        """Addresses of one colour in a plane."""
        return ((self.height + 1) * self.pitch + 1) // 2

    def shifts(self, colour: int) -> tuple[int, int, int, int]:
        """From a cell to the other colour's cells to the right of it, to the left, below and above."""
        half = self.pitch // 2
        return (1, 0, half + 1, -half) if colour else (0, -1, half, -half - 1)

    def split(self, planes: Tensor) -> Tensor:
        """(N, H, W) as (2, N, cells)."""
        addresses = pad(planes, (0, self.pitch - self.width, 0, 1)).flatten(1)
        addresses = pad(addresses, (0, 2 * self.cells - addresses.shape[1]))
        return addresses.view(-1, self.cells, 2).movedim(2, 0).contiguous()

    def join(self, values: Tensor) -> Tensor:
        """(2, N, cells) as (N, H, W); pads are lost."""
        addresses = values.movedim(0, 2).flatten(1)[:, : (self.height + 1) * self.pitch]
        return addresses.reshape(-1, self.height + 1, self.pitch)[:, : self.height, : self.width]

    def inside(self, like: Tensor) -> Tensor:
        """(2, 2, 1, cells): first of the pixels to the right and then of those below, 1 where there is one, else 0."""
        ones = like.new_ones(1, self.height, self.width)
        right = pad(ones[..., 1:], (0, 1))
        below = pad(ones[:, 1:], (0, 0, 0, 1))
        return torch.stack([self.split(right), self.split(below)])


class Field:
    """Values on a checkerboard whose neighbours can be read: views of one buffer.

    Args:
        board: the layout.
        values: (2, N, cells), copied; zero at pads.
    """

    def __init__(self, board: Checkerboard, values: Tensor) -> None:
        guard = board.pitch // 2 + 1  # as far as a neighbour of the first plane or of the last one may lie
        size = values[0].numel()
        buffer = values.new_zeros(2, guard + size + guard)
        self.values = buffer[:, guard : guard + size].view(values.shape)
        self.neighbours = [
            [buffer[1 - colour, guard + shift : guard + shift + size].view(values[0].shape) for shift in board.shifts(colour)]
            for colour in (0, 1)
        ]  # fmt: skip
        self.values.copy_(values)

    def differences(self, direction: int, out: Tensor) -> Tensor:
        """The neighbour's value less the cell's own, of every cell, into `out` (2, N, cells)."""
        for colour in (0, 1):
            torch.sub(self.neighbours[colour][direction], self.values[colour], out=out[colour])
        return out
