"""Cascade of attacks on one defended classifier: each attack sees the images that survived all earlier attacks.

Cheap attacks go first, so that expensive attacks see few images (Croce and Hein 2020, AutoAttack). Success is decided
by the deployed pipeline on the stored image, from a cold solve, and never by the attack.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from stl_ray.attacks import Attack, AttackResult, Budget
from stl_ray.defenses import DefendedModel
from stl_ray.evaluation.budget_usage import budget_usage
from stl_ray.evaluation.defended import DefendedClassifier
from stl_ray.evaluation.tiers import OUT_OF_TIME, survivors
from stl_ray.images import snapped
from stl_ray.models import Victim
from stl_ray.rightness import NO_VERDICT
from stl_ray.threats import ThreatTier

CLEAN_STATUS = "clean"
"""Status of the verdict on the clean image."""


@dataclass(frozen=True)
class CascadeAttack:
    """One attack of the cascade.

    Attributes:
        name: the attack's name in tables.
        tier: the attacker's knowledge.
        attack: the method with its options.
        victim: the classifier that the attack is crafted on.
    """

    name: str
    tier: ThreatTier
    attack: Attack
    victim: Victim


@dataclass(frozen=True)
class CascadeSettings:
    """Settings shared by all attacks of a cascade.

    Attributes:
        budget: the largest allowed perturbation.
        store: how adversarial images are stored, "u8" or "f32".
        seed: the run seed.
        cascade: whether later attacks skip misclassified images; if False, every attack sees every image.
        seconds: time limit of one attack on the images of one call; batches that have not started by then are out of
            time. None: no limit, so that the result does not depend on the machine's speed.
    """

    budget: Budget
    store: Any
    seed: int
    cascade: bool = True
    seconds: float | None = None


def run_cascade(
    deployed: DefendedModel,
    attacks: Sequence[CascadeAttack],
    settings: CascadeSettings,
    images: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    *,
    earlier: Sequence[Sequence[dict[str, Any]]] | None = None,
    batch: int = 64,
    seen: Callable[[CascadeAttack, list[int], AttackResult], None] | None = None,
) -> list[list[dict[str, Any]]]:
    """Verdicts (`VERDICT`) on every image, the clean image first; an image's verdicts do not depend on other images.

    Args:
        deployed: the pipeline that gives the verdicts.
        attacks: the attacks in their order.
        settings: shared by all attacks.
        images: (B, 3, H, W) float32 in [0, 1] on the 8-bit grid.
        labels: (B,) int64.
        ids: of the images.
        earlier: per image, verdicts on stored adversarial sets; they come before the attacks of the cascade.
        batch: images per call of an attack.
        seen: callback (attack, positions of the attacked images, result).
    """
    images = snapped(images, ids)
    clean = deployed.decide(images, ids)
    verdicts: list[list[dict[str, Any]]] = [
        [_verdict("clean", ThreatTier.CLEAN, CLEAN_STATUS, *said)]
        for said in zip(clean.prediction.tolist(), clean.rejected.tolist(), strict=True)
    ]
    for position, stored in enumerate(earlier or []):
        verdicts[position] += stored
    everyone, truth = list(range(len(labels))), labels.tolist()
    for item in attacks:
        start = time.monotonic()
        targets = survivors(truth, verdicts) if settings.cascade else everyone
        for begin in range(0, len(targets), batch):
            positions = targets[begin : begin + batch]
            if settings.seconds is not None and time.monotonic() - start > settings.seconds:
                for position in positions:
                    verdicts[position].append(_verdict(item.name, item.tier, OUT_OF_TIME))
                continue
            batch_ids = [ids[position] for position in positions]
            result = item.attack(
                item.victim,
                images[positions],
                labels[positions],
                budget=settings.budget,
                ids=batch_ids,
                seed=settings.seed,
                store=settings.store,
            )
            if seen is not None:
                seen(item, positions, result)
            decided = deployed.decide(result.images, batch_ids)
            predictions, rejected = decided.prediction.tolist(), decided.rejected.tolist()
            usage = budget_usage(result.images, images[positions], settings.budget).tolist()
            for row, position in enumerate(positions):
                verdicts[position].append(
                    _verdict(
                        item.name,
                        item.tier,
                        str(result.status[row]),
                        predictions[row],
                        rejected[row],
                        float(result.dissimilarity[row]),
                        float(result.linf[row]),
                        int(result.queries[row]),
                        usage[row],
                    )
                )
    return verdicts


def verdict_rows(
    defended: DefendedClassifier,
    attacks: Sequence[CascadeAttack],
    settings: CascadeSettings,
    images: Tensor,
    labels: Tensor,
    ids: Sequence[str],
    earlier: Mapping[str, Sequence[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """One defense under every attack: rows of `VERDICTS_SCHEMA`; arguments as for `run_cascade`, but `earlier` by id."""
    verdicts_by_image = run_cascade(
        defended.victim(defended.strongest),
        attacks,
        settings,
        images,
        labels,
        ids,
        earlier=[earlier.get(item, []) for item in ids],
    )
    rows = zip(ids, labels.tolist(), verdicts_by_image, strict=True)
    return [{"id": item, "label": label, "verdicts": verdicts} for item, label, verdicts in rows]


def _verdict(
    attack: str,
    tier: ThreatTier,
    status: str,
    prediction: int = NO_VERDICT,
    rejected: bool = False,
    dissimilarity: float = 0.0,
    linf: float = 0.0,
    queries: int = 0,
    share: float | None = None,
) -> dict[str, Any]:
    return {
        "attack": attack,
        "tier": str(tier),
        "prediction": prediction,
        "rejected": rejected,
        "status": status,
        "dissimilarity": dissimilarity,
        "linf": linf,
        "queries": queries,
        "share": share,
    }
