"""Distances between images, one number per image. Images are (B, C, H, W) float tensors in [0, 1]."""

import torch
from torch import Tensor


def l2_norm(images: Tensor) -> Tensor:
    """Euclidean norm of every image, (B, ...) -> (B,)."""
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
    """Largest absolute pixel difference of every image, (B,)."""
    return (images - reference).flatten(1).abs().amax(dim=1)


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1, (B,); infinity for equal images."""
    return -10 * torch.log10((images - reference).flatten(1).square().mean(dim=1))
