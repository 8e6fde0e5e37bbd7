"""Pixel deflection: single pixels are replaced by others from their neighbourhood.

Source: Prakash et al. 2018 (arXiv:1801.08926, section 4, algorithm 1), by the code that their figures were made with:

- Passes over the three channels follow each other; a channel draws a position of its own, uniform over the image.
- The position stays as it is with the probability that the map has there, and then does not count.
- Otherwise its value becomes that of a position in the window around it, uniform among those inside the image, of which
  the image's first row and column are not taken for inside.
- The end is looked for after a pass only: 200 deflections are 201 where there is no map, and up to 202 with one.
- A later deflection takes what an earlier one has written.

So every pixel of the result is a pixel of the image: here the positions are worked out alone, and moved all at once.
"""

from collections.abc import Sequence
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.csc import check_images
from stl_ray.errors import TensorError

Places = NDArray[np.int64]

NUMBERS = 5
"""Uniform random numbers that a channel takes in a pass: row, column, row and column of the source, whether it stays."""


def deflected(images: Tensor, seeds: Sequence[int], count: int, window: int, maps: Tensor | None = None) -> Tensor:
    """Deflect pixels of images, each by its own seed; on torch's graph, where images are.

    Args:
        images: (B, 3, H, W) float32 or float64, of any range.
        seeds: (B,).
        count: deflections, as above.
        window: largest distance of a source, in rows and in columns.
        maps: (B, H, W) in [0, 1], the probability that a pixel which was drawn stays; absent: 0 everywhere.

    Raises:
        TensorError: the images have another shape or type, are not finite, or have a single row or column.
    """
    check_images(images, channels=3, side=1)
    channels, height, width = images.shape[1:]
    if min(height, width) < 2:
        raise TensorError("images are too small to deflect", expected="at least 2 x 2", got=f"{height} x {width}")
    size = channels * height * width
    targets, sources = [], []
    for row, seed in enumerate(seeds):
        moved = moves(seed, (channels, height, width), count, window, None if maps is None else maps[row].cpu().numpy())
        targets.append(np.fromiter(moved.keys(), np.int64, len(moved)) + row * size)
        sources.append(np.fromiter(moved.values(), np.int64, len(moved)) + row * size)
    to, of = (torch.from_numpy(np.concatenate(places)).to(images.device) for places in (targets, sources))
    flat = images.reshape(-1)
    return flat.scatter(0, to, flat[of]).view(images.shape)


def moves(
    seed: int, shape: tuple[int, int, int], count: int, window: int, stays: NDArray[np.float32] | None
) -> dict[int, int]:
    """The pixels of an image of this shape that change, and of each the pixel of the image whose value it ends with.

    Pixels are numbered channel by channel, in each row by row.
    """
    origin: dict[int, int] = {}
    for target, source in drawn(torch.Generator().manual_seed(seed), shape, count, window, stays):
        origin[target] = origin.get(source, source)
    return origin


def drawn(
    generator: torch.Generator, shape: tuple[int, int, int], count: int, window: int, stays: NDArray[np.float32] | None
) -> list[tuple[int, int]]:
    """(target, source) of every deflection, one after the other."""
    channels, height, width = shape
    places = np.arange(channels) * (height * width)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < count:
        passes = -(-(count - len(pairs)) // channels)
        numbers = torch.rand((passes, channels, NUMBERS), generator=generator, dtype=torch.float64).numpy()
        row, column, source_row, source_column, stay = np.moveaxis(numbers, -1, 0)
        rows, columns = (row * height).astype(np.int64), (column * width).astype(np.int64)
        targets = places + rows * width + columns
        sources = (
            places + _near(rows, source_row, height, window) * width + _near(columns, source_column, width, window)
        )
        found = zip(targets.ravel().tolist(), sources.ravel().tolist(), strict=True)
        pairs += found if stays is None else compress(found, (stay >= stays[rows, columns]).ravel().tolist())
    return pairs


def _near(places: Places, uniform: NDArray[np.float64], size: int, window: int) -> Places:
    """Places at most `window` away, from 1 to size - 1."""
    first, last = np.maximum(places - window, 1), np.minimum(places + window, size - 1)
    near: Places = first + (uniform * (last - first + 1)).astype(np.int64)
    return near
