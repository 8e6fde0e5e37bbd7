"""Attacks of the checks on one deployed pipeline: every variant that the checks compare."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from stl_ray.attacks import AttackResult, Budget, Store, make_attack
from stl_ray.attacks.budget import LEVELS
from stl_ray.attacks.losses import margin
from stl_ray.defenses import Decisions, Defended, record_of
from stl_ray.evaluation.sanity.table import Measure, Probe, ProbeAnswers
from stl_ray.models import Victim, against, in_loop, predict
from stl_ray.rightness import right
from stl_ray.seeding import seed_of

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Budgets of the sweep as factors of the budget; the largest possible budget follows."""

RETRIES: dict[str, dict[str, int | float | bool]] = {
    "start 1": {"random_start": True},
    "start 2": {"random_start": True},
    "start 3": {"random_start": True},
    "half the step": {"relative_step": 0.0625},
    "twice the step": {"relative_step": 0.25},
}
"""Variants of the iterated attack that may be stronger."""


@dataclass(frozen=True)
class Subject:
    """The pipeline under check, and the settings of the checks.

    Attributes:
        deployed: the defended classifier with the defense's strongest gradient.
        budget: budget of the attacks.
        store: storage of adversarial images.
        seed: the run seed.
        level: "quick" or "full": 10 or 50 steps of the iterated attack, and 100 or 1000 queries.
    """

    deployed: Defended
    budget: Budget
    store: Literal["u8", "f32"]
    seed: int
    level: Literal["quick", "full"] = "quick"

    @property
    def steps(self) -> int:
        """Steps of the iterated attack."""
        return 10 if self.level == "quick" else 50

    @property
    def queries(self) -> int:
        """Queries of the gradient-free attack."""
        return 100 if self.level == "quick" else 1000


@dataclass(frozen=True)
class Crafted:
    """Adversarial images and the verdicts on them."""

    result: AttackResult
    decided: Decisions  # of the deployed pipeline, from cold solves


def attack_all(
    subject: Subject, images: Tensor, labels: Tensor, ids: Sequence[str], answers: ProbeAnswers
) -> dict[str, Crafted]:
    """Run every attack and record its predictions in `answers`.

    Args:
        subject: the pipeline under check.
        images: (B, 3, H, W) float32 in [0, 1] on the 8-bit grid.
        labels: (B,) int64.
        ids: of the images.
        answers: receives predictions and measures.

    Returns:
        By probe, the attacks at the budget.
    """
    deployed, steps = subject.deployed, subject.steps
    # Attacks name an image to the victim by this seed.
    items = {
        str(seed_of(subject.seed, name, "attack")): label for name, label in zip(ids, labels.tolist(), strict=True)
    }
    watched = WatchedVictim(deployed, items)
    crafted: dict[str, Crafted] = {}

    def run(
        probe: str, attack: str, victim: Victim, options: Mapping[str, Any], size: float | None = None, seed: int = 0
    ) -> Crafted:
        budget = subject.budget if size is None else subject.budget.model_copy(update={"size": size})
        result = make_attack(attack, options)(
            victim, images, labels, budget=budget, ids=ids, seed=subject.seed + seed, store=subject.store
        )
        decided = deployed.decide(result.images, ids)
        answers.decide(probe, decided)
        return Crafted(result, decided)

    def iterated(**options: Any) -> dict[str, Any]:
        return {"random_start": False, "steps": steps, **options}

    crafted[Probe.WHITE_BOX] = white = run(Probe.WHITE_BOX, "pgd", watched, iterated())
    said = (one.cpu().numpy() for one in (white.decided.prediction, labels, white.decided.rejected))
    held = right(*said, attacked=True)
    answers.measures[Measure.SILENT_SUCCESS] = [
        float(item in watched.misclassified and kept) for item, kept in zip(items, held.tolist(), strict=True)
    ]
    crafted[Probe.SINGLE_STEP] = run(Probe.SINGLE_STEP, "fgsm", deployed, {})
    crafted[Probe.NOISE] = run(Probe.NOISE, "noise", deployed, {})
    crafted[Probe.TRANSFER] = transfer = run(Probe.TRANSFER, "pgd", deployed.bare, iterated())
    answers.answers[Probe.BARE_CLASSIFIER] = predict(deployed.bare, transfer.result.images).tolist()
    if deployed.gradient != "bpda":
        crafted[Probe.BPDA] = run(Probe.BPDA, "pgd", replace(deployed, gradient="bpda"), iterated())
    crafted[Probe.OTHER_LOSS] = run(Probe.OTHER_LOSS, "pgd", deployed, iterated(loss="margin"))
    queries = {"queries": subject.queries}
    crafted[Probe.GRADIENT_FREE] = run(Probe.GRADIENT_FREE, "square", replace(deployed, gradient="none"), queries)
    for factor in (2, 4):
        more = run(f"{Probe.STEPS}{factor}", "pgd", deployed, iterated(steps=factor * steps))
        answers.measures[f"{Measure.MARGIN}{factor}"] = _margins(deployed, more.result.images, labels, ids)
    for number, (name, options) in enumerate(RETRIES.items()):
        run(f"{Probe.RETRY}{name}", "pgd", deployed, iterated(**options), seed=number)
    for size in sweep_sizes(subject.budget, subject.store):
        run(f"{Probe.SWEEP}{size:g}", "pgd", deployed, iterated(), size=size)
    _other_clusters(subject, images, labels, ids, white, answers)
    return crafted


def sweep_sizes(budget: Budget, store: Store) -> list[float]:
    """Different sizes of the sweep in ascending order; the largest allows any image, or black and white.

    In L_inf 8 bits hold whole levels: sizes are rounded down to them, and the smallest is one.
    """
    most = {"dissimilarity": 1.0, "linf": 1.0, "l2": 64 * budget.size}[budget.kind]
    sizes = [factor * budget.size for factor in FACTORS]
    if budget.kind == "linf" and store == "u8":
        levels = round(budget.size * LEVELS)
        sizes = [max(1, int(factor * levels)) / LEVELS for factor in FACTORS]
    return [*sorted({size for size in sizes if size < most}), most]


def _margins(victim: Victim, images: Tensor, labels: Tensor, ids: Sequence[str]) -> list[float]:
    """Largest other logit minus the true logit, from cold solves; 0 for one class."""
    margins: list[float] = margin(in_loop(against(victim, labels), ids).logits(images), labels).tolist()
    return margins


def _other_clusters(
    subject: Subject, images: Tensor, labels: Tensor, ids: Sequence[str], white: Crafted, answers: ProbeAnswers
) -> None:
    """The iterated attack with gradients through clusters that are not the predicted cluster."""
    deployed = subject.deployed
    clusters = deployed.defense.routes
    if not clusters:
        return
    predicted = record_of(deployed.purify(images, ids)).cluster.long()
    flipped = record_of(deployed.purify(white.result.images, ids)).cluster.long() != predicted
    answers.measures[Measure.CLUSTER_FLIPPED] = flipped.double().tolist()
    predictions, rejected = answers.answers[Probe.CLEAN].copy(), answers.rejected[Probe.CLEAN].copy()
    # Quick: the next cluster of each image. Full: all other clusters; one success counts.
    for offset in range(1, clusters if subject.level == "full" else min(2, clusters)):
        for cluster in range(clusters):
            rows = ((predicted + offset) % clusters == cluster).nonzero()[:, 0].tolist()
            held = right(predictions, labels.cpu().numpy(), rejected, attacked=True)
            rows = [row for row in rows if held[row]]
            if not rows:
                continue
            names = [ids[row] for row in rows]
            result = make_attack("pgd", {"random_start": False, "steps": subject.steps})(
                replace(deployed, through=deployed.defense.routed_to(cluster)),
                images[rows],
                labels[rows],
                budget=subject.budget,
                ids=names,
                seed=subject.seed,
                store=subject.store,
            )
            decided = deployed.decide(result.images, names)
            for row, *found in zip(rows, decided.prediction.tolist(), decided.rejected.tolist(), strict=True):
                predictions[row], rejected[row] = found
    answers.answers[Probe.OTHER_CLUSTER], answers.rejected[Probe.OTHER_CLUSTER] = predictions, rejected


class WatchedVictim:
    """A victim that records in `misclassified` which items it misclassified in any gradient call.

    Args:
        victim: the watched pipeline.
        labels: true class by item; items are the strings of what `Looping.loop` is called with.
    """

    def __init__(self, victim: Defended, labels: Mapping[str, int]) -> None:
        self.victim, self.labels = victim, labels
        self.misclassified: set[str] = set()

    def logits(self, images: Tensor) -> Tensor:
        """See `Victim`."""
        return self.victim.logits(images)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """See `Victim`."""
        return self.victim.logits_and_vjp(images, cotangent)

    def against(self, labels: Tensor) -> "WatchedVictim":
        """See `Refusing`."""
        watched = WatchedVictim(self.victim.against(labels), self.labels)
        watched.misclassified = self.misclassified
        return watched

    def loop(self, items: Sequence[str | int]) -> Victim:
        """See `Looping`."""
        return _WatchedLoop(self, self.victim.loop(items), [str(item) for item in items])


class _WatchedLoop:
    def __init__(self, watched: WatchedVictim, inner: Victim, items: Sequence[str]) -> None:
        self.watched, self.inner, self.items = watched, inner, items

    def logits(self, images: Tensor) -> Tensor:
        return self.inner.logits(images)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        logits, product = self.inner.logits_and_vjp(images, cotangent)
        for item, prediction in zip(self.items, logits.argmax(1).tolist(), strict=False):
            if item in self.watched.labels and prediction != self.watched.labels[item]:
                self.watched.misclassified.add(item)
        return logits, product
