"""Random numbers of attacks: a stream for each image and round, whatever stands beside it and however often it is drawn.

Drawn on the CPU, so that a GPU sees the same numbers.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_MASK = 2**64 - 1


def stream(seed: int, number: int = 0) -> torch.Generator:
    """The generator of an image's stream, started afresh.

    Args:
        seed: of the image.
        number: which of its streams.
    """
    # splitmix64: torch's generator looks at 32 bits of a seed, which must depend on all of these.
    mixed = (seed + (number + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return torch.Generator().manual_seed(mixed ^ (mixed >> 31))


def draw_per_image(seeds: Tensor, number: Tensor | int, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """What `draw` makes of every image's stream, stacked.

    Args:
        seeds: (B,) int64, of the images; the result is on their device.
        number: which of an image's streams, such as the number of the round: one for all, or (B,) int64.
        draw: makes a tensor of one shape from a generator.
    """
    numbers = number.tolist() if isinstance(number, Tensor) else [number] * len(seeds)
    streams = zip(seeds.tolist(), numbers, strict=True)
    return torch.stack([draw(stream(seed, which)) for seed, which in streams]).to(seeds.device)


def normal(seeds: Tensor, number: Tensor | int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers of that shape for each image, (B, *shape) float32."""
    return draw_per_image(seeds, number, lambda generator: torch.randn(shape, generator=generator))


def uniform(seeds: Tensor, number: Tensor | int, shape: tuple[int, ...]) -> Tensor:
    """Numbers in [0, 1) of that shape for each image, (B, *shape) float32."""
    return draw_per_image(seeds, number, lambda generator: torch.rand(shape, generator=generator))
