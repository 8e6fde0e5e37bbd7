"""Linearised class boundaries around an image, for DeepFool and FAB."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from stl_ray.attacks.budget import Norm
from stl_ray.models import Victim, logits_and_vjps


def logit_differences(victim: Victim, images: Tensor, labels: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Logit differences z_k - z_y and their gradients for some classes k of every image.

    Args:
        victim: the classifier.
        images: (B, 3, H, W).
        labels: (B,) classes y.
        others: (B, R) classes k, R >= 1.

    Returns:
        (R, B) differences and (R, B, 3, H, W) gradients.
    """

    def cotangents(logits: Tensor) -> Tensor:
        classes = logits.shape[1]
        return (one_hot(others.T, classes) - one_hot(labels, classes)).to(logits)

    logits, gradients = logits_and_vjps(victim, images, cotangents)
    return (logits.gather(1, others) - logits.gather(1, labels[:, None])).T, gradients


def nearest_boundary(values: Tensor, gradients: Tensor, norm: Norm) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest linearised boundary, by |difference| over the dual norm of its gradient.

    Args:
        values: (R, B) differences.
        gradients: (R, B, 3, H, W).
        norm: of the distance.

    Returns:
        (B,) distance, (B,) difference and (B, 3, H, W) gradient of the nearest boundary.
    """
    flat = gradients.flatten(2)
    dual = flat.norm(dim=2) if norm == "l2" else flat.abs().sum(dim=2)
    distances, which = (values.abs() / (dual + 1e-8)).min(dim=0)
    rows = torch.arange(values.shape[1], device=values.device)
    return distances, values[which, rows], gradients[which, rows]


def likeliest_other_classes(logits: Tensor, labels: Tensor, most: int) -> Tensor:
    """The likeliest classes except the label, in descending order, (B, R) int64 with R = min(most, n - 1)."""
    others = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
    return others[:, : min(most, logits.shape[1] - 1)]
