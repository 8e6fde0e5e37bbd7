"""Random streams per image: independent of batch and earlier draws; drawn on the CPU, so the same on every device."""

from collections.abc import Callable

import torch
from torch import Tensor

_MASK = 2**64 - 1


def stream(seed: int, number: int = 0) -> torch.Generator:
    """A new generator of one stream of an image.

    Args:
        seed: the image's seed.
        number: number of the stream.
    """
    # splitmix64: torch's generator uses 32 bits of a seed, which must depend on all bits of seed and number.
    mixed = (seed + (number + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return torch.Generator().manual_seed(mixed ^ (mixed >> 31))


def draw_per_image(seeds: Tensor, number: Tensor | int, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """Draws from every image's stream, stacked.

    Args:
        seeds: (B,) int64, the images' seeds; the result is on the same device.
        number: number of the stream: one for all images, or (B,) int64.
        draw: generator -> tensor of a fixed shape.
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
