"""The classifiers behind each defense as attacks see them, and the attacks of the tiers on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stl_ray.attacks import make_attack
from stl_ray.config import Experiment, TiersConfig
from stl_ray.defenses import Defended, Defense, make_defense
from stl_ray.evaluation import UNDEFENDED, CascadeAttack, CascadeSettings, ThreatTier
from stl_ray.models import Victim
from stl_ray.pipeline.budgets import budget_of
from stl_ray.pipeline.inputs import classifier_of, make_defenses
from stl_ray.store import Storage
from stl_ray.store.layout import VANILLA


@dataclass(frozen=True)
class DefendedClassifier:
    """A defense with the classifier that is deployed behind it."""

    defense: Defense
    classifier: Victim
    identity: dict[str, Any]

    def victim(self, gradient: Literal["exact", "bpda", "none"], samples: int, seed: int) -> Defended:
        """The two as a victim; only a randomised defense is asked more than once."""
        draws = samples if self.defense.randomised else 1
        return Defended(self.classifier, self.defense, gradient, samples=draws, seed=seed)

    @property
    def strongest(self) -> Literal["exact", "bpda"]:
        """The best gradient that the defense has."""
        return "exact" if "exact" in self.defense.gradients else "bpda"


def load_defended(root: str, experiment: Experiment, device: str) -> dict[str, DefendedClassifier]:
    """Every defense of an experiment by its name, "none" first, with its retrained classifier, else the vanilla one.

    Args:
        root: of the finished experiment that spaces and classifiers are read from.
        experiment: which defenses there are, and whether they have classifiers of their own.
        device: to load them to.

    Raises:
        IncompleteRunError: if a space or a classifier is not there yet.
    """
    located = experiment.model_copy(update={"root": root})
    undefended = make_defense(UNDEFENDED, {}, space=None, stl=experiment.stl)
    found = {}
    for name, defense in {UNDEFENDED: undefended, **make_defenses(located, device)}.items():
        classifier, digest = classifier_of(root, retrained_name(experiment, name), device)
        found[name] = DefendedClassifier(defense, classifier, {"defense": defense.identity(), "classifier": digest})
    return found


def retrained_name(experiment: Experiment, defense: str) -> str:
    """The classifier that is deployed behind a defense: its own, and the vanilla one without defense or retraining."""
    return defense if defense != UNDEFENDED and experiment.train.retrain else VANILLA


def cascade_settings_of(experiment: Experiment) -> CascadeSettings:
    """What holds for every attack of the tiers."""
    tiers = experiment.evaluate.tiers
    return CascadeSettings(budget_of(tiers.budget), tiers.budget.store, experiment.seed, tiers.cascade, tiers.seconds)


def cascade_attacks_on(
    name: str,
    tiers: TiersConfig,
    defended: DefendedClassifier,
    substitute: Mapping[str, DefendedClassifier] | None,
    seed: int,
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
            victim = substitute[name].victim(substitute[name].strongest, tiers.samples, seed)
        else:
            gradient: Literal["exact", "bpda", "none"] = {"T3": "bpda", "T4": "exact", "T5": "none"}[item.tier]  # type: ignore[assignment]
            victim = defended.victim(gradient, tiers.samples, seed)
        found.append(
            CascadeAttack(item.name, ThreatTier(item.tier), make_attack(item.attack, item.options, item.engine), victim)
        )
    return found


def substitute_of(experiment: Experiment, device: str) -> dict[str, DefendedClassifier] | None:
    """The substitute experiment's defenses with its classifiers, where one is named."""
    root = experiment.evaluate.tiers.substitute
    return None if root is None else load_defended(Storage.open(root).root, experiment, device)
