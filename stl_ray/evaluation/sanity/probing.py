"""Probing of one deployed pipeline: clean queries, gradients, attacks, and measurements; every image on its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from stl_ray.attacks import AttackStatus, Budget
from stl_ray.attacks.geometry import rescaled, steepest
from stl_ray.attacks.losses import cross_entropy, slope_of
from stl_ray.defenses import Defended
from stl_ray.evaluation.budget_usage import budget_usage
from stl_ray.evaluation.sanity.attacks import Crafted, Subject, attack_all
from stl_ray.evaluation.sanity.checks import OVER_ALLOWED, UNDER_ALLOWED
from stl_ray.evaluation.sanity.table import Measure, Probe, ProbeAnswers
from stl_ray.images import snapped
from stl_ray.metrics import l2_norm
from stl_ray.models import check_classes
from stl_ray.rightness import NO_VERDICT
from stl_ray.seeding import seed_of

FINITE_DIFFERENCES = 8
"""Images on which the vector-Jacobian product is compared with finite differences, in two directions each."""

STEP = 2e-5
"""Step of the finite differences over the image's norm: above float32 rounding and the certificate of a solve, and
small enough that few atoms change."""

OFF_GRID = 0.8 / 255
"""Width of the noise by which images are taken off the 8-bit grid for finite differences: many steps of theirs."""


@dataclass(frozen=True)
class Stored:
    """Adversarial images as stored.

    Attributes:
        images: (B, 3, H, W).
        budget: the largest allowed perturbation.
        store: storage of the images.
        status: how the attack on each image ended; None where the images may stay below the budget.
    """

    images: Tensor
    budget: Budget
    store: Literal["u8", "f32"]
    status: Sequence[AttackStatus] | None = None


def probe(
    subject: Subject,
    images: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    differences: Sequence[bool],
    stored: Mapping[str, Stored] | None = None,
) -> list[dict[str, Any]]:
    """Rows of `PROBES_SCHEMA`, one per image.

    Args:
        subject: the pipeline under check.
        images: (B, 3, H, W) float32 in [0, 1] on the 8-bit grid.
        labels: (B,) int64.
        ids: of the images.
        differences: per image, whether finite differences are taken, which cost several certified solves.
        stored: the same images in the stored adversarial sets.

    Raises:
        TensorError: a label is no class of the pipeline.
    """
    images, answers = snapped(images, ids), ProbeAnswers(labels)
    _query_clean(subject, images, labels, ids, answers)
    _differentiate(subject, images, labels, ids, differences, answers)
    crafted = attack_all(subject, images, labels, ids, answers)
    _measure_budgets(subject, images, crafted, stored or {}, answers)
    return answers.rows(ids)


def _query_clean(subject: Subject, images: Tensor, labels: Tensor, ids: Sequence[str], answers: ProbeAnswers) -> None:
    """Clean images: repeated passes, a batch of one, and the logits."""
    deployed = subject.deployed
    decided = deployed.decide(images, ids)
    clean = decided.prediction
    answers.decide(Probe.CLEAN, decided)
    for number in range(5):
        again = replace(deployed, seed=seed_of(deployed.seed, "pass", str(number)))
        answers.decide(f"{Probe.PASS}{number}", again.decide(images, ids))
    together = deployed.verdict_logits(images, ids)
    check_classes(labels, together.shape[1])
    alone = torch.cat([deployed.verdict_logits(image[None], [name]) for image, name in zip(images, ids, strict=True)])
    # What the defense has nothing to show of has logits, of black, and no verdict.
    answers.answers[Probe.ALONE] = torch.where(clean == NO_VERDICT, NO_VERDICT, alone.argmax(1)).tolist()
    if deployed.detector is not None:
        answers.rejected[Probe.ALONE] = [
            bool(deployed.decide(image[None], [name]).rejected) for image, name in zip(images, ids, strict=True)
        ]
    # One class has no spread; its logit is as good a scale.
    both = torch.cat([together, alone], 1)
    spread = both.amax(1) - both.amin(1) if together.shape[1] > 1 else both.abs().amax(1)
    answers.measures |= {
        Measure.LOWEST_LOGIT: together.amin(1).tolist(),
        Measure.HIGHEST_LOGIT: together.amax(1).tolist(),
        Measure.SUM_OF_LOGITS: together.sum(1).tolist(),
        Measure.BATCH_GAP: ((together - alone).abs().amax(1) / torch.where(spread > 0, spread, 1)).tolist(),
        Measure.TRAINING_MODE: [float(getattr(deployed.classifier, "training", False))] * len(ids),
    }


def _measure_budgets(
    subject: Subject,
    images: Tensor,
    crafted: Mapping[str, Crafted],
    stored: Mapping[str, Stored],
    answers: ProbeAnswers,
) -> None:
    """Excess over, and shortfall below, the budget of every stored image, in float64."""
    over, under, stray, box = [], [], [], []
    attacked = [
        Stored(item.result.images, subject.budget, subject.store, item.result.status) for item in crafted.values()
    ]
    for item in [*attacked, *stored.values()]:
        excess = budget_usage(item.images, images, item.budget) - 1
        # In L_inf an attack may stay below the budget, and so may stored sets, whose status is unknown.
        full = torch.zeros(len(images), dtype=torch.bool)
        if item.status is not None and item.budget.norm == "l2":
            full = torch.tensor([status in (AttackStatus.OK, AttackStatus.ALREADY_WRONG) for status in item.status])
        short = torch.where(full, -excess, 0).clamp(min=0)
        over.append(excess)
        under.append(short)
        stray.append(torch.maximum(excess / OVER_ALLOWED[item.store], short / UNDER_ALLOWED[item.store]))
        inside = item.images.isfinite() & (item.images >= 0) & (item.images <= 1)
        box.append((~inside).flatten(1).any(1).double().cpu())
    for name, values in (
        (Measure.OVER_BUDGET, over),
        (Measure.UNDER_BUDGET, under),
        (Measure.OVER_TOLERANCE, stray),
        (Measure.OUT_OF_BOX, box),
    ):
        answers.measures[name] = torch.stack(values).amax(0).tolist()


def _differentiate(
    subject: Subject,
    images: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    differences: Sequence[bool],
    answers: ProbeAnswers,
) -> None:
    """Gradients of the cross-entropy, and finite differences of the float pipeline with certified solves.

    Every answer is that of a new loop: of a randomised defense, of the same draws.
    """
    deployed = subject.deployed.against(labels)

    def slope(logits: Tensor) -> Tensor:
        return slope_of(cross_entropy, logits, labels)

    _, gradient = deployed.loop(ids).logits_and_vjp(images, slope)
    finite = gradient.flatten(1).isfinite().all(1)
    answers.measures[Measure.ZERO_GRADIENT] = (~gradient.nan_to_num().flatten(1).any(1)).double().tolist()
    answers.measures[Measure.INFINITE_GRADIENT] = (~finite).double().tolist()
    bpda = replace(deployed, gradient="bpda").loop(ids).logits_and_vjp(images, slope)[1]
    if deployed.gradient == "exact":
        one = torch.ones_like(labels, dtype=gradient.dtype)
        cosine = (rescaled(gradient, one) * rescaled(bpda, one)).flatten(1).sum(1)
        answers.measures[Measure.BPDA_COSINE] = cosine.tolist()
    answers.measures[Measure.LOSS_RISES] = _rises(subject, images, labels, ids, gradient).double().tolist()
    if deployed.gradient == "exact":
        answers.measures[Measure.DIFFERENCE_ERROR] = [
            _difference_error(_certified(deployed.against(labels[seed : seed + 1])), image[None], name, seed)
            if wanted
            else float("nan")
            for seed, (image, name, wanted) in enumerate(zip(images, ids, differences, strict=True))
        ]


def _certified(victim: Defended) -> Defended:
    """The float pipeline with certified solves, for finite differences."""
    return replace(victim, defense=victim.defense.certified(), rounded=False)


def _rises(subject: Subject, images: Tensor, labels: Tensor, ids: Sequence[str], gradient: Tensor) -> Tensor:
    """(B,) bool: whether a hundredth of the budget along the gradient raises the loss of the float pipeline."""
    victim = _certified(subject.deployed.against(labels))
    radius = subject.budget.radius(images)[:, None, None, None]
    direction = steepest(gradient, torch.ones_like(labels, dtype=gradient.dtype), subject.budget.norm)
    further = (images + 0.01 * radius * direction).clamp(0, 1)
    before, after = (victim.loop(ids).logits(moved) for moved in (images, further))
    # The cross-entropy is convex in the logits: it rises where its slope says so. The loss itself rounds a small rise away,
    # next to log n for small logits and next to zero for confident ones.
    return (slope_of(cross_entropy, before, labels) * (after - before)).sum(1) > 0


def _difference_error(victim: Defended, image: Tensor, name: str, seed: int) -> float:
    """Median over two directions d of the relative error of (J^T v) d, where v separates the two likeliest classes.

    Of one class, v is its logit.
    """
    generator = torch.Generator().manual_seed(seed)
    errors = []
    # Off the 8-bit grid, where many neighbours are equal: a median has no derivative there.
    image = (image + (torch.rand(image.shape, generator=generator) - 0.5).to(image) * OFF_GRID).clamp(0, 1)

    def slope(logits: Tensor) -> Tensor:
        v, likeliest = torch.zeros_like(logits), logits.topk(min(2, logits.shape[1]), dim=1).indices
        return v.scatter(1, likeliest, torch.tensor([[1.0, -1.0]], device=logits.device)[:, : likeliest.shape[1]])

    def logits(image: Tensor) -> Tensor:
        return victim.loop([name]).logits(image)

    _, gradient = victim.loop([name]).logits_and_vjp(image, slope)
    for _ in range(2):
        # Half along the gradient, because the effect of a random direction is below the solver's tolerance.
        noise = torch.randn(image.shape, generator=generator).to(image)
        direction = rescaled(gradient, gradient.new_ones(1)) + noise / l2_norm(noise)
        inside = (image > 0.02) & (image < 0.98)  # away from the kinks of the clip
        direction = direction * inside / l2_norm(direction * inside)
        step = STEP * float(l2_norm(image))
        ahead = logits((image + step * direction).clamp(0, 1))
        behind = logits((image - step * direction).clamp(0, 1))
        middle = slope(logits(image))
        measured = ((ahead - behind) * middle).sum().double() / (2 * step)
        predicted = (gradient * direction).sum().double()
        larger = torch.maximum(measured.abs(), predicted.abs())
        errors.append((predicted - measured).abs() / torch.where(larger > 0, larger, 1))
    return float(torch.stack(errors).median())
