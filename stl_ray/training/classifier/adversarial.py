"""Adversarial training: a part of a batch is attacked on the network as it is at that step, and trained on with the rest.

FGSM   one step of signs on the class that the network predicts, clean and attacked images mixed, an attacked one's loss
       counting `weight` as much (Kurakin, Goodfellow and Bengio 2017, section 3; true labels would leak, section 4)
PGD    steps of signs from a random start in the ball, on the true class (Madry et al. 2018)
fast   one step of 1.25 times the ball from a random start, on the true class (Wong, Rice and Kolter 2020)

All work in an L_inf ball for every image. A budget of normalised L2 dissimilarity d gives image x the radius
d ||x|| / sqrt(n), n its numbers: a full step of signs has just that dissimilarity, before it is clipped to [0, 1]. Attacks
differentiate through an input transform, so a classifier can be trained on T(x + delta) with the projection's own gradient. They are
made in eval mode, where no statistics move, and rounded to 8 bits, as stored images are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stl_ray.config.training import AdversarialConfig
from stl_ray.defenses import Differentiable
from stl_ray.images import quantize
from stl_ray.metrics import l2_norm

Logits = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) in [0, 1] to logits (B, n), differentiable."""

_FAST_STEP = 1.25


@dataclass(frozen=True)
class Attacked:
    """A batch whose first images are attacked, and the weights of its images' losses, of mean 1."""

    images: Tensor
    weights: Tensor


def attacked(
    classifier: nn.Module,
    input_transform: Differentiable | None,
    images: Tensor,
    labels: Tensor,
    config: AdversarialConfig,
    *,
    seeds: Sequence[int],
) -> Attacked:
    """Attack the configured share of a batch on the network as it stands; random starts from torch's global generators.

    Args:
        classifier: maps images in [0, 1] to logits; its mode is restored.
        input_transform: the defense that images pass on their way to it; None: no defense.
        images: (B, 3, H, W) in [0, 1].
        labels: (B,) int64.
        config: the attack.
        seeds: per-image seeds (B,) of the defense's draws, one draw for the whole attack.
    """
    count = max(1, round(config.attacked_share * len(images)))
    training = classifier.training
    classifier.eval()
    try:
        network: Logits = (
            classifier if input_transform is None else lambda batch: classifier(input_transform(batch, seeds[:count]))
        )
        examples = craft(network, images[:count], labels[:count], config)
    finally:
        classifier.train(training)
    weights = torch.ones(len(images), device=images.device)
    weights[:count] = config.weight if count < len(images) else 1.0
    return Attacked(torch.cat([examples, images[count:]]), weights * (len(images) / weights.sum()))


def craft(network: Logits, images: Tensor, labels: Tensor, config: AdversarialConfig) -> Tensor:
    """Adversarial images (B, 3, H, W), each in the ball of its image, on the 8-bit grid.

    Args:
        network: in eval mode.
        images: (B, 3, H, W) in [0, 1].
        labels: (B,) int64; FGSM does not use them.
        config: method and budget.
    """
    # Not the PGD of `stl_ray.attacks`: it draws starts per image on the CPU, checks every gradient on the host and keeps the
    # best iterate at the price of one more forward pass. Training would be slower, and its images others.
    radius = radii(images, config)
    if config.method == "fgsm":
        with torch.no_grad():
            labels = network(images).argmax(dim=1)
        moved = images + radius * _signs(network, images, labels)
    else:
        moved = images + radius * (2 * torch.rand_like(images) - 1)
        steps, step = (config.steps, config.relative_step) if config.method == "pgd" else (1, _FAST_STEP)
        for _ in range(steps):
            moved = moved.clamp(0, 1)
            moved = moved + step * radius * _signs(network, moved, labels)
            moved = images + torch.minimum((moved - images).abs(), radius) * (moved - images).sign()
    return quantize(moved.clamp(0, 1))


def radii(images: Tensor, config: AdversarialConfig) -> Tensor:
    """The L_inf radius of every image, (B, 1, 1, 1) in [0, 1] pixels."""
    if config.linf is not None:
        return images.new_full((len(images), 1, 1, 1), config.linf / 255)
    norm = l2_norm(images).to(images)
    return (config.dissimilarity or 0.0) * norm[:, None, None, None] / sqrt(images[0].numel())


def _signs(network: Logits, images: Tensor, labels: Tensor) -> Tensor:
    """Signs of the gradient of every image's cross-entropy with respect to the image."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        loss = F.cross_entropy(network(leaf).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    signs: Tensor = gradient.sign()
    return signs
