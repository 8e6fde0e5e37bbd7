"""Distances between images, one number per image. Images are (B, C, H, W) float tensors of any one scale.

In [0, 1] or in whole levels: norms and differences are in the images' own units and the dissimilarity is a ratio, the
same for both. `psnr` alone knows a peak and takes [0, 1].
"""

import torch
from torch import Tensor


def l2_norm(images: Tensor) -> Tensor:
    """Euclidean norm of every image in its own units, (B, ...) -> (B,)."""
    norms: Tensor = images.flatten(1).norm(dim=1)
    return norms


def dissimilarity(images: Tensor, reference: Tensor) -> Tensor:
    """Normalised L2 dissimilarity ||x' - x|| / ||x|| in pixel space, (B,).

    A black reference (||x|| = 0) gives 0 where the images agree and infinity where they do not.
    Source: Sun et al. 2019, section 5.1; Guo et al. 2018.
    """
    distance = l2_norm(images - reference)
    norm = l2_norm(reference)
    return torch.where(distance == 0, torch.zeros_like(distance), distance / norm)


def linf(images: Tensor, reference: Tensor) -> Tensor:
    """Largest absolute pixel difference of every image in the images' units, (B,)."""
    return (images - reference).flatten(1).abs().amax(dim=1)


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], whose peak is 1, (B,); infinity for equal images."""
    return -10 * torch.log10((images - reference).flatten(1).square().mean(dim=1))
