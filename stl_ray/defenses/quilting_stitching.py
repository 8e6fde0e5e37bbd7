"""Stitching of image quilting: patches on a grid, put down in raster order, each along its seam.

A patch meets what the patches above it, to the right above it and to its left made of the canvas. So the patches (i, j)
of one 2 i + j wait for no other of them, and are put down together: 2 rows + columns steps.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from stl_ray.defenses.quilting_seams import OVERLAP, SIDE, Seam

STRIDE = SIDE - OVERLAP
"""From one patch to the next, in pixels."""


class _Step(NamedTuple):
    """Patches that are put down together."""

    above: bool
    left: bool
    numbers: Tensor  # (n,) int64, of the patches in raster order
    pixels: Tensor  # (n, 25) int64, of the flat canvas


def cut_out(images: Tensor, rows: int, columns: int) -> Tensor:
    """The patches of a grid, in raster order.

    Args:
        images: (B, 3, H, W).
        rows: of patches, from the top; as many as fit at most.
        columns: the same from the left.

    Returns:
        (B, rows * columns, 3, 25).
    """
    windows = images.unfold(2, SIDE, STRIDE).unfold(3, SIDE, STRIDE)[:, :, :rows, :columns]
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(4).flatten(1, 2)


def stitch(patches: Tensor, rows: int, columns: int, seam: Seam, height: int, width: int) -> Tensor:
    """Put patches on a black canvas.

    Args:
        patches: (B, rows * columns, 3, 25) float32 levels 0 to 255, in raster order.
        rows: of patches.
        columns: of patches.
        seam: what a patch takes of the canvas.
        height: of the canvas, at least what the patches cover.
        width: the same.

    Returns:
        (B, 3, height, width) levels.
    """
    canvas = patches.new_zeros(len(patches), height * width, 3)
    for step in _steps(rows, columns, width, patches.device):
        old = canvas[:, step.pixels].movedim(-1, -2)
        new = patches[:, step.numbers]
        taken = seam(old, new, step.above, step.left)[:, :, None]
        canvas[:, step.pixels] = torch.where(taken, new, old).movedim(-1, -2)
    return canvas.movedim(-1, -2).reshape(-1, 3, height, width)


@lru_cache(maxsize=16)
def _steps(rows: int, columns: int, width: int, device: torch.device) -> tuple[_Step, ...]:
    waves: dict[tuple[int, bool, bool], list[tuple[int, int]]] = {}
    for i in range(rows):
        for j in range(columns):
            waves.setdefault((2 * i + j, i > 0, j > 0), []).append((i, j))
    inside = torch.arange(SIDE)[:, None] * width + torch.arange(SIDE)
    steps = []
    for (_, above, left), places in sorted(waves.items()):
        i, j = torch.tensor(places).T
        pixels = ((i * width + j) * STRIDE)[:, None] + inside.flatten()
        steps.append(_Step(above, left, (i * columns + j).to(device), pixels.to(device)))
    return tuple(steps)
