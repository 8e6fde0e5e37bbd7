"""The victims of adversarial sets: each a classifier of the experiment, alone or behind a defense."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from stl_ray.config import AttackedConfig, Experiment, NamedAttack
from stl_ray.defenses import Defense
from stl_ray.evaluation import DefendedClassifier
from stl_ray.models import Victim
from stl_ray.pipeline.attack.sets import classifier_of
from stl_ray.pipeline.classifiers import LoadedClassifier, load_classifier
from stl_ray.pipeline.defenses import make_defenses


class Attacked(NamedTuple):
    """A victim and whatever can change its answers."""

    victim: Victim
    identity: Any  # JSON-able; the classifier's own for one without defense
    classes: Tensor  # (n,) int64, by class of the images that class among its own


def victims_of(
    sets: Sequence[NamedAttack], experiment: Experiment, names: Sequence[str], device: str = "cpu"
) -> list[Attacked]:
    """The victims of adversarial sets; each classifier, defense and space is loaded once.

    Args:
        sets: with their classifiers.
        experiment: where classifiers and defenses are.
        names: classes of the images.
        device: to load them to.

    Raises:
        IncompleteRunError: if a classifier or a space was not made yet.
        ConfigError: if a classifier, its function or a defense is unknown.
    """
    chosen = [attack.victim.defense for attack in sets if attack.victim.defense is not None]
    defenses = make_defenses(experiment, device, names=chosen)
    loaded = {
        (name, defense): load_classifier(experiment, name, defense, names, device)
        for name, defense in dict.fromkeys((classifier_of(attack), attack.victim.retrained_for) for attack in sets)
    }
    return [
        _attacked(attack.victim, loaded[classifier_of(attack), attack.victim.retrained_for], defenses, experiment.seed)
        for attack in sets
    ]


def _attacked(config: AttackedConfig, loaded: LoadedClassifier, defenses: Mapping[str, Defense], seed: int) -> Attacked:
    if config.defense is None:
        return Attacked(loaded.classifier, loaded.identity, loaded.classes)
    defense = defenses[config.defense]
    defended = DefendedClassifier.of(defense, loaded.classifier, loaded.identity, seed)
    victim = defended.victim(config.gradient, config.samples)
    made_of = {
        "gradient": config.gradient,
        "samples": victim.samples,
        "defense": defense.identity(),
        "classifier": loaded.identity,
    }
    return Attacked(victim, made_of, loaded.classes)
