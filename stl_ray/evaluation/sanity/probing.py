"""Asks a defended classifier what the checks look at; every image on its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stl_ray.attacks import AttackStatus
from stl_ray.evaluation.budget_usage import budget_usage
from stl_ray.evaluation.cascade import verdicts_on
from stl_ray.evaluation.sanity import answers, budget
from stl_ray.evaluation.sanity.attacking import attack
from stl_ray.evaluation.sanity.differences import differentiate
from stl_ray.evaluation.sanity.subject import Answers, Crafted, Stored, Subject
from stl_ray.models import in_loop
from stl_ray.seeding import seed_of


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
        subject: what is checked.
        images: (B, 3, H, W) float32 in [0, 1] on the 8-bit grid.
        labels: (B,) int64.
        ids: of the images.
        differences: for which of the images finite differences are taken, which cost several certified solves.
        stored: the same images in the stored adversarial sets.
    """
    found = Answers(labels)
    _ask(subject, images, ids, found)
    differentiate(subject, images, labels, differences, found)
    crafted = attack(subject, images, labels, ids, found)
    _measure(subject, images, crafted, stored or {}, found)
    return found.rows(ids)


def _ask(subject: Subject, images: Tensor, ids: Sequence[str], found: Answers) -> None:
    """The clean images: again and again, alone, and the logits themselves."""
    deployed = subject.deployed
    found.answers["clean"] = verdicts_on(deployed, images, ids).tolist()
    for number in range(5):
        again = replace(deployed, seed=seed_of(deployed.seed, "pass", str(number)))
        found.answers[f"{answers.PASS}{number}"] = verdicts_on(again, images, ids).tolist()
    together = in_loop(deployed, ids).logits(images)
    alone = torch.cat([in_loop(deployed, [name]).logits(image[None]) for image, name in zip(images, ids, strict=True)])
    found.answers[answers.ALONE] = alone.argmax(1).tolist()
    spread = (together.amax(1) - together.amin(1)).clamp(min=1e-12)
    found.measures |= {
        answers.LOW: together.amin(1).tolist(),
        answers.HIGH: together.amax(1).tolist(),
        answers.SUM: together.sum(1).tolist(),
        answers.GAP: ((together - alone).abs().amax(1) / spread).tolist(),
        answers.TRAINING: [float(getattr(deployed.classifier, "training", False))] * len(ids),
    }


def _measure(
    subject: Subject, images: Tensor, crafted: Mapping[str, Crafted], stored: Mapping[str, Stored], found: Answers
) -> None:
    """How far every stored image is from its clean one, in float64, over its budget."""
    over, under, stray, box = [], [], [], []
    own = [Stored(made.result.images, subject.budget, subject.store, made.result.status) for made in crafted.values()]
    for item in [*own, *stored.values()]:
        excess = budget_usage(item.images, images, item.budget) - 1
        # In L_inf an attack need not go as far as it may, and of a stored set it is not known whether it had to.
        reached = torch.zeros(len(images), dtype=torch.bool)
        if item.status is not None and item.budget.norm == "l2":
            reached = torch.tensor([status != AttackStatus.BUDGET_UNREACHABLE for status in item.status])
        short = torch.where(reached, -excess, 0).clamp(min=0)
        over.append(excess)
        under.append(short)
        stray.append(torch.maximum(excess / budget.OVER_ALLOWED[item.store], short / budget.UNDER_ALLOWED[item.store]))
        inside = item.images.isfinite() & (item.images >= 0) & (item.images <= 1)
        box.append((~inside).flatten(1).any(1).double().cpu())
    for name, values in ((budget.OVER, over), (budget.UNDER, under), (budget.STRAY, stray), (budget.BOX, box)):
        found.measures[name] = torch.stack(values).amax(0).tolist()
