"""The attacks of the cascade on each defense, and the substitute that some of them are crafted on."""

from collections.abc import Mapping
from typing import Any, Literal

from stl_ray.attacks import make_attack
from stl_ray.config import Experiment, TiersConfig
from stl_ray.evaluation import UNDEFENDED, CascadeAttack, CascadeSettings, ThreatTier
from stl_ray.pipeline.budgets import budget_of
from stl_ray.pipeline.defended import DefendedClassifier, load_defended
from stl_ray.store import Storage


def cascade_settings_of(experiment: Experiment) -> CascadeSettings:
    """What holds for every attack of the tiers."""
    tiers = experiment.evaluate.tiers
    return CascadeSettings(budget_of(tiers.budget), tiers.budget.store, experiment.seed, tiers.cascade, tiers.seconds)


def cascade_attacks_on(
    name: str,
    tiers: TiersConfig,
    defended: DefendedClassifier,
    substitute: Mapping[str, DefendedClassifier] | None,
) -> list[CascadeAttack]:
    """The attacks of the tiers on one defense, in their order; those that it has no gradient for are left out.

    Without a defense the classifier is attacked with its own gradient and by queries; the other tiers are the same thing.
    """
    found = []
    for item in tiers.attacks:
        if name == UNDEFENDED and item.tier not in ("T4", "T5"):
            continue
        if item.tier == "T4" and "exact" not in defended.defense.gradients:
            continue
        if item.tier == "T2" and substitute is None:
            continue
        if item.tier == "T1b":
            victim: Any = defended.classifier
        elif item.tier == "T2" and substitute is not None:
            victim = substitute[name].victim(substitute[name].strongest, tiers.samples)
        else:
            gradient: Literal["exact", "bpda", "none"] = {"T3": "bpda", "T4": "exact", "T5": "none"}[item.tier]  # type: ignore[assignment]
            victim = defended.victim(gradient, tiers.samples)
        found.append(
            CascadeAttack(item.name, ThreatTier(item.tier), make_attack(item.attack, item.options, item.engine), victim)
        )
    return found


def substitute_of(experiment: Experiment, device: str) -> dict[str, DefendedClassifier] | None:
    """The substitute experiment's defenses with its classifiers, where one is named."""
    root = experiment.evaluate.tiers.substitute
    return None if root is None else load_defended(experiment, device, Storage.open(root).root)
