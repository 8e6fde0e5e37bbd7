"""What the configuration of the tiers asks for: attacks on each defense, their settings, and the subject of the checks."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stl_ray.attacks import budget_of, make_attack
from stl_ray.config import Budgeted, Gradient, NamedAttack, TiersConfig
from stl_ray.evaluation.cascade import CascadeAttack, CascadeSettings
from stl_ray.evaluation.defended import DefendedClassifier
from stl_ray.evaluation.sanity import Subject
from stl_ray.evaluation.scores import UNDEFENDED
from stl_ray.threats import ThreatTier, threat_of

QUICK = 64
"""Images that the quick checks are run on."""

CHECKED_TOGETHER = {"cpu": 16, "cuda": 32}
"""Images that are checked as one, by the type of the device: a tile on a CPU, which takes minutes."""

_GRADIENTS: dict[ThreatTier, tuple[Gradient, ...]] = {
    ThreatTier.BPDA: ("bpda",),
    ThreatTier.WHITE_BOX: ("exact", "stand_in"),
    ThreatTier.QUERY: ("none",),
}
"""Those that an attack of the tier may go by: the first that the defense has."""


def cascade_settings_of(tiers: TiersConfig, seed: int) -> CascadeSettings:
    """The settings that all attacks of the tiers share."""
    return CascadeSettings(budget_of(tiers.budget), tiers.budget.store, seed, tiers.cascade, tiers.seconds)


def cascade_attacks_on(
    name: str,
    tiers: TiersConfig,
    defended: DefendedClassifier,
    substitute: Mapping[str, DefendedClassifier] | None,
) -> list[CascadeAttack]:
    """The attacks of the tiers on one defense, in their order; those that it has no gradient for are left out.

    Without a defense, the classifier is attacked by its gradient and by queries; the other tiers coincide with these.
    """
    attacks = []
    for item in tiers.attacks:
        tier = ThreatTier(item.tier)
        if name == UNDEFENDED and tier not in (ThreatTier.WHITE_BOX, ThreatTier.QUERY):
            continue
        if tier == ThreatTier.TRANSFER and substitute is None:
            continue
        if tier == ThreatTier.GREY_BOX_DEPLOYED:
            victim: Any = defended.victim("none").bare
        elif tier == ThreatTier.TRANSFER and substitute is not None:
            victim = substitute[name].victim(substitute[name].strongest, tiers.samples)
        else:
            gradient = next((mode for mode in _GRADIENTS[tier] if mode in (*defended.defense.gradients, "none")), None)
            if gradient is None:
                continue
            victim = defended.victim(gradient, tiers.samples)
        attacks.append(CascadeAttack(item.name, tier, make_attack(item.attack, item.options, item.engine), victim))
    return attacks


def threats_in_order(
    classifier: str,
    defense: str,
    stored: Sequence[NamedAttack],
    attacks: Sequence[CascadeAttack],
    *,
    retrained: bool,
) -> dict[str, ThreatTier]:
    """The tiers of the attacks on a classifier behind a defense by name: stored sets first, then those of the cascade."""
    return {
        item.name: threat_of(item.name, classifier, defense, item.victim, retrained=retrained) for item in stored
    } | {item.name: item.tier for item in attacks}


def subject_of(defended: DefendedClassifier, tiers: TiersConfig, seed: int, level: Literal["quick", "full"]) -> Subject:
    """One defense as the checks see it."""
    return Subject(
        defended.victim(defended.strongest, tiers.samples), budget_of(tiers.budget), tiers.budget.store, seed, level
    )


def checked_images(images: int | None, level: Literal["quick", "full"]) -> int | None:
    """How many of the attacked images are checked, of how many; None: all."""
    if level == "full":
        return images
    return QUICK if images is None else min(QUICK, images)


def counts_within(item: NamedAttack, limit: Budgeted) -> bool:
    """Whether a stored set is within the budget of the tiers, and so counts in the worst case."""
    stored, budget = budget_of(item), budget_of(limit)
    # A set at a mean dissimilarity has images over it, and float32 images are beyond an 8-bit attacker.
    if item.budget != "per_image" or (item.store, limit.store) == ("f32", "u8"):
        return False
    return (stored.kind, stored.space) == (budget.kind, budget.space) and stored.size <= budget.size


def stored_verdict(
    item: NamedAttack,
    classifier: str,
    defense: str,
    predicted: Mapping[str, Any],
    measured: Mapping[str, Any],
    *,
    retrained: bool,
) -> dict[str, Any]:
    """The verdict (`VERDICT`) on one image of a stored set.

    Args:
        item: the set.
        classifier: name of the scored classifier.
        defense: name of the defense that the image was shown to.
        predicted: the image's row of `PREDICTIONS_SCHEMA`; the deployed pipeline's are its columns of `retrained`.
        retrained: whether its classifier was retrained for the defense.
        measured: of the image, by name; what a verdict has no field for is left out.
    """
    figures = {name: measured[name] for name in ("status", "dissimilarity", "linf", "queries")}
    tier = str(threat_of(item.name, classifier, defense, item.victim, retrained=retrained))
    decided = {"prediction": predicted["retrained"], "rejected": predicted["retrained_rejected"]}
    return {"attack": item.name, "tier": tier, **decided, **figures}
