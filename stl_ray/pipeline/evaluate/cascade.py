"""The attacks of the cascade on each defense, and the substitute that some of them are crafted on."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stl_ray.attacks import make_attack
from stl_ray.config import Experiment, TiersConfig
from stl_ray.errors import ConfigError
from stl_ray.evaluation import UNDEFENDED, CascadeAttack, CascadeSettings
from stl_ray.options import named
from stl_ray.pipeline.budgets import budget_of
from stl_ray.pipeline.defended import Block, DefendedClassifier, load_blocks
from stl_ray.pipeline.inputs import stored_experiment, with_solver
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


def substitutes_of(
    experiment: Experiment, blocks: Mapping[str, Block], names: Sequence[str], device: str
) -> dict[str, dict[str, DefendedClassifier]]:
    """By block, the substitute experiment's defenses with its classifier of that name, or its only one; empty without one.

    Raises:
        IncompleteRunError: the substitute experiment is not there, or not finished up to train.
        ConfigError: it lacks a defense, has no classifier for a block, or one with other classes.
    """
    root = experiment.evaluate.tiers.substitute
    if root is None:
        return {}
    other = with_solver(stored_experiment(root))
    wanted = [item.name for item in experiment.defenses]
    have = {item.name: item for item in other.defenses}
    chosen = other.model_copy(update={"defenses": tuple(named(have, name, kind=_SUBSTITUTED) for name in wanted)})
    substitutes = load_blocks(chosen, names, device)
    found = {}
    for name, block in blocks.items():
        substitute = substitutes.get(name) or (next(iter(substitutes.values())) if len(substitutes) == 1 else None)
        if substitute is None or substitute.class_names != block.class_names:
            raise ConfigError(
                "the substitute experiment has no classifier in the place of this one, with its classes", item=name,
                expected="one of the same name, or only one", got=", ".join(substitutes),
            )  # fmt: skip
        found[name] = substitute.defended
    return found


_SUBSTITUTED = "defense of the substitute experiment"
