"""Attacks the images in every way that the checks compare."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stl_ray.attacks import Budget, make_attack
from stl_ray.defenses import SparseTransformation
from stl_ray.evaluation.cascade import verdicts_on
from stl_ray.evaluation.sanity import ablations, convergence, strength
from stl_ray.evaluation.sanity.subject import Answers, Crafted, Subject
from stl_ray.evaluation.sanity.sweep import SWEEP
from stl_ray.evaluation.sanity.watching import Watched
from stl_ray.models import Victim, in_loop, predict
from stl_ray.seeding import seed_of

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Budgets of the sweep, times the budget; the largest that there is comes after them."""

RETRIES: dict[str, dict[str, int | float | bool]] = {
    "start 1": {"random_start": True},
    "start 2": {"random_start": True},
    "start 3": {"random_start": True},
    "half the step": {"relative_step": 0.0625},
    "twice the step": {"relative_step": 0.25},
}
"""Options of the iterated attack that may make it find more."""


def attack(subject: Subject, images: Tensor, labels: Tensor, ids: Sequence[str], found: Answers) -> dict[str, Crafted]:
    """Every attack, by the name of its probe."""
    deployed, steps = subject.deployed, subject.steps
    watched = Watched(
        deployed,
        {str(seed_of(subject.seed, name, "attack")): label for name, label in zip(ids, labels.tolist(), strict=True)},
    )
    crafted: dict[str, Crafted] = {}

    def run(
        name: str, attack: str, victim: Victim, options: Mapping[str, Any], size: float | None = None, seed: int = 0
    ) -> Crafted:
        own = subject.budget if size is None else subject.budget.model_copy(update={"size": size})
        result = make_attack(attack, options)(
            victim, images, labels, budget=own, ids=ids, seed=subject.seed + seed, store=subject.store
        )
        made = Crafted(result, verdicts_on(deployed, result.images, ids))
        found.answers[name] = made.predictions.tolist()
        return made

    def iterated(**options: Any) -> dict[str, Any]:
        return {"random_start": False, "steps": steps, **options}

    crafted[strength.WHITE_BOX] = white = run(strength.WHITE_BOX, "pgd", watched, iterated())
    silent = [
        float(item in watched.fell and prediction == label)
        for item, prediction, label in zip(watched.labels, white.predictions.tolist(), labels.tolist(), strict=True)
    ]
    found.measures[convergence.SILENT] = silent
    crafted[strength.SINGLE_STEP] = run(strength.SINGLE_STEP, "fgsm", deployed, {})
    crafted[strength.NOISE] = run(strength.NOISE, "noise", deployed, {})
    crafted[strength.TRANSFER] = transfer = run(strength.TRANSFER, "pgd", deployed.classifier, iterated())
    found.answers[ablations.UNDEFENDED] = predict(deployed.classifier, transfer.result.images).tolist()
    if deployed.gradient != "bpda":
        crafted[strength.BPDA] = run(strength.BPDA, "pgd", replace(deployed, gradient="bpda"), iterated())
    crafted[strength.OTHER_LOSS] = run(strength.OTHER_LOSS, "pgd", deployed, iterated(loss="margin"))
    queries = {"queries": subject.queries}
    crafted[strength.GRADIENT_FREE] = run(strength.GRADIENT_FREE, "square", replace(deployed, gradient="none"), queries)
    for factor in (2, 4):
        more = run(f"{convergence.STEPS}{factor}", "pgd", deployed, iterated(steps=factor * steps))
        found.measures[f"{convergence.LOSS}{factor}"] = _margins(deployed, more.result.images, labels, ids)
    for number, (name, options) in enumerate(RETRIES.items()):
        run(f"{convergence.RETRY}{name}", "pgd", deployed, iterated(**options), seed=number)
    for size in sweep_sizes(subject.budget):
        run(f"{SWEEP}{size:g}", "pgd", deployed, iterated(), size=size)
    _other_clusters(subject, images, labels, ids, white, found)
    return crafted


def sweep_sizes(budget: Budget) -> list[float]:
    """The budgets of the sweep, the largest being all that there is: black and white, or anything."""
    most = {"dissimilarity": 1.0, "linf": 1.0, "l2": 64 * budget.size}[budget.kind]
    return [*(size for factor in FACTORS if (size := factor * budget.size) < most), most]


def _margins(victim: Victim, images: Tensor, labels: Tensor, ids: Sequence[str]) -> list[float]:
    """The largest other logit minus the true one, from cold solves."""
    logits = in_loop(victim, ids).logits(images)
    true = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
    margins: list[float] = (others - true)[:, 0].tolist()
    return margins


def _other_clusters(
    subject: Subject, images: Tensor, labels: Tensor, ids: Sequence[str], white: Crafted, found: Answers
) -> None:
    """The iterated attack with gradients through a cluster that is not the predicted one."""
    defense = subject.deployed.defense
    if not isinstance(defense, SparseTransformation) or defense.space.router is None:
        return
    predicted = defense.purify(images).cluster.long()
    clusters = len(defense.space.dictionaries)
    found.measures[ablations.FLIPPED] = (
        (defense.purify(white.result.images).cluster.long() != predicted).double().tolist()
    )
    answered = found.answers["clean"].copy()
    # Quick: the next cluster of each image; full: all others, of which one that succeeds counts.
    for offset in range(1, clusters if subject.level == "full" else min(2, clusters)):
        for cluster in range(clusters):
            rows = ((predicted + offset) % clusters == cluster).nonzero()[:, 0].tolist()
            rows = [row for row in rows if answered[row] == int(labels[row])]
            if not rows:
                continue
            own = [ids[row] for row in rows]
            result = make_attack("pgd", {"random_start": False, "steps": subject.steps})(
                replace(subject.deployed, through=defense.routed_to(cluster)),
                images[rows],
                labels[rows],
                budget=subject.budget,
                ids=own,
                seed=subject.seed,
                store=subject.store,
            )
            for row, prediction in zip(rows, verdicts_on(subject.deployed, result.images, own).tolist(), strict=True):
                answered[row] = prediction
    found.answers[ablations.OTHER_CLUSTER] = answered
