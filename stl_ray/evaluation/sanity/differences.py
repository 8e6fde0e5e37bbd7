"""Takes the gradients that H8 looks at, and finite differences of the pipeline."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from stl_ray.defenses import Defended, SparseTransformation
from stl_ray.evaluation.sanity import gradients
from stl_ray.evaluation.sanity.subject import Answers, Subject
from stl_ray.metrics import l2_norm

FINITE_DIFFERENCES = 8
"""Images on which the vector-Jacobian product is checked, in two directions each."""

DIFFERENCE = 2e-5
"""Step of the finite differences over the image's norm: long enough for float32 and the certificate of a solve, short
enough that few atoms come and go."""


def differentiate(
    subject: Subject, images: Tensor, labels: Tensor, differences: Sequence[bool], found: Answers
) -> None:
    """The gradient of the cross-entropy, and finite differences of the float pipeline at certified solves."""
    deployed = subject.deployed

    def slope(logits: Tensor) -> Tensor:
        return logits.softmax(1) - torch.nn.functional.one_hot(labels, logits.shape[1])

    _, gradient = deployed.logits_and_vjp(images, slope)
    finite = gradient.flatten(1).isfinite().all(1)
    size = l2_norm(gradient.nan_to_num())
    found.measures[gradients.ZERO] = (size == 0).double().tolist()
    found.measures[gradients.NOT_FINITE] = (~finite).double().tolist()
    bpda = replace(deployed, gradient="bpda").logits_and_vjp(images, slope)[1]
    if deployed.gradient == "exact":
        cosine = torch.nn.functional.cosine_similarity(gradient.flatten(1), bpda.flatten(1))
        found.measures[gradients.COSINE] = cosine.tolist()
    found.measures[gradients.RISES] = _rises(subject, images, labels, gradient).double().tolist()
    if deployed.gradient == "exact":
        found.measures[gradients.DIFFERENCE] = [
            _difference_error(certified(deployed), image[None], seed) if wanted else float("nan")
            for seed, (image, wanted) in enumerate(zip(images, differences, strict=True))
        ]


def certified(victim: Defended) -> Defended:
    """The float pipeline with its solves certified: what finite differences can be taken of."""
    defense = victim.defense
    if isinstance(defense, SparseTransformation):
        defense = replace(defense, config=defense.config.model_copy(update={"accuracy": "exact"}))
    return replace(victim, defense=defense, rounded=False)


def _rises(subject: Subject, images: Tensor, labels: Tensor, gradient: Tensor) -> Tensor:
    """(B,) bool: whether a hundredth of the budget along the gradient raises the loss of the float pipeline."""
    victim = certified(subject.deployed)
    radius = subject.budget.radius(images)[:, None, None, None]
    way = (
        gradient.sign()
        if subject.budget.norm == "linf"
        else gradient / l2_norm(gradient).clamp(min=1e-30)[:, None, None, None]
    )
    losses = [
        torch.nn.functional.cross_entropy(victim.logits(moved), labels, reduction="none")
        for moved in (images, (images + 0.01 * radius * way).clamp(0, 1))
    ]
    # Where the loss is zero to rounding nothing can be seen to rise.
    return (losses[1] > losses[0]) | (losses[0] < 1e-6)


def _difference_error(victim: Defended, image: Tensor, seed: int) -> float:
    """The median over two directions d of the relative error of (J^T v) d, v between the two likeliest classes."""
    generator = torch.Generator().manual_seed(seed)
    errors = []

    def slope(logits: Tensor) -> Tensor:
        v = torch.zeros_like(logits)
        return v.scatter(1, logits.topk(2, dim=1).indices[:, :2], torch.tensor([[1.0, -1.0]], device=logits.device))

    _, gradient = victim.logits_and_vjp(image, slope)
    for _ in range(2):
        # Half along the gradient: of a random direction alone nothing is seen above the solver's tolerance.
        noise = torch.randn(image.shape, generator=generator).to(image)
        way = gradient / l2_norm(gradient).clamp(min=1e-30) + noise / l2_norm(noise)
        inside = (image > 0.02) & (image < 0.98)  # off the box, where the clip has its kinks
        way = way * inside / l2_norm(way * inside)
        step = DIFFERENCE * float(l2_norm(image))
        ahead, behind = victim.logits((image + step * way).clamp(0, 1)), victim.logits((image - step * way).clamp(0, 1))
        middle = slope(victim.logits(image))
        measured = float(((ahead - behind) * middle).sum()) / (2 * step)
        predicted = float((gradient * way).sum())
        errors.append(abs(predicted - measured) / max(abs(measured), 1e-30))
    return float(torch.tensor(errors).median())
