"""The network of the diffusion defense: a small UNet that says the noise of an image.

Source: Ho et al. 2020, appendix B: residual blocks of group norm, SiLU and convolution, to each of which the level of noise
is added as an embedding of sines; one convolution of stride 2 down, nearest neighbours and a convolution up. Here with
three scales of one block each, and without attention, which a scale of 8 x 8 pixels was given there.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FACTORS = (1, 2, 4)
"""Channels of every scale over the width."""

STRIDE = 2 ** (len(FACTORS) - 1)
"""Sides of images are multiples of it."""

GROUPS = 8
"""Of every group norm; the width is a multiple of it."""


class Block(nn.Module):
    """A residual block, (B, channels, H, W) and embeddings (B, embedding) -> (B, out, H, W)."""

    def __init__(self, channels: int, out: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, channels), nn.GroupNorm(GROUPS, out)
        self.conv1, self.conv2 = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.level = nn.Linear(embedding, out)
        self.shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """The features behind the block."""
        inner = self.conv1(F.silu(self.norm1(features))) + self.level(embedding)[:, :, None, None]
        made: Tensor = self.conv2(F.silu(self.norm2(inner))) + self.shortcut(features)
        return made


class UNet(nn.Module):
    """Noisy images and their levels -> the noise.

    Weights are drawn as torch does, from the global generator.

    Args:
        width: channels of the largest scale.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels, embedding = [width * factor for factor in FACTORS], 4 * width
        self.width = width
        self.embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.encode = nn.ModuleList(
            Block(before, after, embedding) for before, after in zip([width, *channels], channels, strict=False)
        )
        self.shrink = nn.ModuleList(nn.Conv2d(scale, scale, 3, stride=2, padding=1) for scale in channels[:-1])
        self.middle = Block(channels[-1], channels[-1], embedding)
        self.grow = nn.ModuleList(nn.Conv2d(below, above, 3, padding=1) for above, below in pairwise(channels))
        self.decode = nn.ModuleList(Block(2 * scale, scale, embedding) for scale in channels)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, noisy: Tensor, levels: Tensor) -> Tensor:
        """The noise (B, 3, H, W) of images (B, 3, H, W), sides multiples of `STRIDE`, at levels (B,) >= 1."""
        embedding = self.embed(_sines(levels.to(noisy.dtype), self.width))
        # Convolutions and norms of CPUs are a fifth faster on pixels than on planes.
        features = self.first(noisy.contiguous(memory_format=torch.channels_last))
        kept: list[Tensor] = []
        for scale, encode in enumerate(self.encode):
            features = encode(self.shrink[scale - 1](features) if scale else features, embedding)
            kept.append(features)
        features = self.middle(features, embedding)
        for scale in reversed(range(len(FACTORS))):
            if scale < len(FACTORS) - 1:
                features = self.grow[scale](F.interpolate(features, scale_factor=2.0))
            features = self.decode[scale](torch.cat([features, kept[scale]], 1), embedding)
        noise: Tensor = self.last(F.silu(self.norm(features)))
        return noise.contiguous()


def _sines(levels: Tensor, width: int) -> Tensor:
    """(B,) -> (B, width): sines and cosines of periods from 2 pi to 20,000 pi levels."""
    exponents = torch.arange(width // 2, device=levels.device, dtype=levels.dtype) / (width // 2 - 1)
    angles = levels[:, None] * torch.exp(-math.log(10_000) * exponents)
    return torch.cat([angles.sin(), angles.cos()], 1)
