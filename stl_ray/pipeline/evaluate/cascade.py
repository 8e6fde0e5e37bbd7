"""The attacks of the cascade on each defense, and the substitute that some of them are crafted on."""

from collections.abc import Mapping
from typing import Any, Literal

from stl_ray.attacks import make_attack
from stl_ray.config import Experiment, TiersConfig
from stl_ray.evaluation import UNDEFENDED, CascadeAttack, CascadeSettings
from stl_ray.pipeline.budgets import budget_of
from stl_ray.pipeline.defended import DefendedClassifier, load_defended
from stl_ray.store import Storage
from stl_ray.threats import ThreatTier

_GRADIENTS: dict[ThreatTier, Literal["exact", "bpda", "none"]] = {
    ThreatTier.BPDA: "bpda",
    ThreatTier.WHITE_BOX: "exact",
    ThreatTier.QUERY: "none",
}


def cascade_settings_of(experiment: Experiment) -> CascadeSettings:
    """The settings that all attacks of the tiers share."""
    tiers = experiment.evaluate.tiers
    return CascadeSettings(budget_of(tiers.budget), tiers.budget.store, experiment.seed, tiers.cascade, tiers.seconds)


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
        if tier == ThreatTier.WHITE_BOX and "exact" not in defended.defense.gradients:
            continue
        if tier == ThreatTier.TRANSFER and substitute is None:
            continue
        if tier == ThreatTier.GREY_BOX_DEPLOYED:
            victim: Any = defended.classifier
        elif tier == ThreatTier.TRANSFER and substitute is not None:
            victim = substitute[name].victim(substitute[name].strongest, tiers.samples)
        else:
            victim = defended.victim(_GRADIENTS[tier], tiers.samples)
        attacks.append(CascadeAttack(item.name, tier, make_attack(item.attack, item.options, item.engine), victim))
    return attacks


def substitute_of(experiment: Experiment, device: str) -> dict[str, DefendedClassifier] | None:
    """The substitute experiment's defenses with its classifiers, where one is named."""
    root = experiment.evaluate.tiers.substitute
    return None if root is None else load_defended(experiment, device, Storage.open(root).root)
