"""Attack losses of the logits, one per image, and their gradients with respect to the image through a victim."""

from collections.abc import Callable

import torch
from torch import Tensor

from stl_ray.models import Victim, check_classes

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, n), labels (B,)) -> (B,) losses, larger is worse for the victim; differentiable."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax of the true class."""
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit minus the true logit, > 0 for a misclassified image. Source: Carlini, Wagner 2017, f6.

    The other logits are masked with minus infinity, not with zero: logits may all be negative. Zero for one class.
    """
    true = logits.gather(1, labels[:, None])[:, 0]
    if logits.shape[1] == 1:
        return true - true
    return logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1) - true


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio, margin / (z_1 - z_3) of the sorted logits. Source: Croce, Hein 2020, Eq. 6.

    The plain margin for fewer than three classes, where the ratio is not defined.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / _or_one(top[:, 0] - top[:, 2])


def _or_one(spread: Tensor) -> Tensor:
    """One where the likeliest classes are level. No small constant, which would have the unit of the logits."""
    return torch.where(spread > 0, spread, 1)


def dlr_to(targets: Tensor) -> Loss:
    """Targeted DLR, (z_t - z_y) / (z_1 - (z_3 + z_4) / 2). Source: Croce, Hein 2020, Eq. 7.

    The plain difference for fewer than four classes.

    Args:
        targets: (B,) target classes.
    """

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        difference = (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]
        if logits.shape[1] < 4:
            return difference
        top = logits.topk(4, dim=1).values
        return difference / _or_one(top[:, 0] - (top[:, 2] + top[:, 3]) / 2)

    return loss


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}
"""Untargeted losses by name."""


def loss_gradient(
    victim: Victim, images: Tensor, labels: Tensor, loss: Loss = cross_entropy, samples: int = 1
) -> tuple[Tensor, Tensor]:
    """Logits (B, n), and the gradient of each image's loss with respect to the image, (B, 3, H, W).

    Args:
        victim: the classifier.
        images: (B, 3, H, W) in [0, 1].
        labels: (B,) classes.
        loss: loss of the logits.
        samples: draws of a randomised victim; logits and gradients are means (expectation over transformation, Athalye
            et al. 2018).

    Raises:
        TensorError: if a label is not a class of the victim.
    """

    def cotangent(logits: Tensor) -> Tensor:
        check_classes(labels, logits.shape[1])
        return slope_of(loss, logits, labels)

    logits, gradient = victim.logits_and_vjp(images, cotangent)
    for _ in range(samples - 1):
        more = victim.logits_and_vjp(images, cotangent)
        logits, gradient = logits + more[0], gradient + more[1]
    return logits / samples, gradient / samples


def slope_of(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """Derivative of the loss with respect to the logits."""
    if loss is cross_entropy:
        # softmax - one_hot, with minus the sum of the other classes for the true class: near probability 1 the
        # difference itself cancels, and the gradient of a confident victim would be wrong.
        others = logits.softmax(dim=1).scatter(1, labels[:, None], 0)
        return others.scatter(1, labels[:, None], -others.sum(dim=1, keepdim=True))
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf, labels).sum(), leaf)
    return slope
