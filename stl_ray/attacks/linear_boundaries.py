"""Linearised class boundaries around an image, for DeepFool and FAB.

Where a boundary lies does not depend on the scale of the logits, and no constant here has their unit: the same network with
its logits times a power of two gives the same bits.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from stl_ray.attacks.budget import Norm
from stl_ray.models import Victim, logits_and_vjps


def logit_differences(victim: Victim, images: Tensor, labels: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Logit differences z_k - z_y and their gradients for some classes k of every image, both over a power of two.

    Args:
        victim: the classifier.
        images: (B, 3, H, W).
        labels: (B,) classes y.
        others: (B, R) classes k, R >= 1.

    Returns:
        (R, B) differences and (R, B, 3, H, W) gradients, whose largest entry is in [0.5, 1) each, or which are zero.
    """

    def cotangents(logits: Tensor) -> Tensor:
        classes = logits.shape[1]
        return (one_hot(others.T, classes) - one_hot(labels, classes)).to(logits)

    logits, gradients = logits_and_vjps(victim, images, cotangents)
    return _normalised((logits.gather(1, others) - logits.gather(1, labels[:, None])).T, gradients)


def _normalised(values: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    # A power of two rounds nothing, and squares of a faint gradient would underflow in float32.
    peaks = gradients.flatten(2).abs().amax(dim=2)
    power = torch.where(peaks > 0, peaks / peaks.frexp().mantissa, 1)
    values, gradients = values / power, gradients / power[..., None, None, None]
    # Beyond the largest number is as far as without a gradient.
    near = values.isfinite()
    return torch.where(near, values, 0), torch.where(near[..., None, None, None], gradients, 0)


def nearest_boundary(values: Tensor, gradients: Tensor, norm: Norm) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest linearised boundary, by |difference| over the dual norm of its gradient.

    Args:
        values: (R, B) differences.
        gradients: (R, B, 3, H, W).
        norm: of the distance.

    Returns:
        (B,) distance, infinite without a gradient, (B,) difference and (B, 3, H, W) gradient of the nearest boundary.
    """
    flat = gradients.flatten(2)
    dual = flat.norm(dim=2) if norm == "l2" else flat.abs().sum(dim=2)
    distances, which = torch.where(dual > 0, values.abs() / dual, torch.inf).min(dim=0)
    rows = torch.arange(values.shape[1], device=values.device)
    return distances, values[which, rows], gradients[which, rows]


def likeliest_other_classes(logits: Tensor, labels: Tensor, most: int) -> Tensor:
    """The likeliest classes except the label, in descending order, (B, R) int64 with R = min(most, n - 1)."""
    others = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
    return others[:, : min(most, logits.shape[1] - 1)]
