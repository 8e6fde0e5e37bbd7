"""The victim of an adversarial set: a classifier of the experiment, alone or behind a defense."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from stl_ray.config import Experiment, NamedAttack
from stl_ray.evaluation import DefendedClassifier
from stl_ray.models import Victim
from stl_ray.pipeline.attack.sets import classifier_of
from stl_ray.pipeline.classifiers import load_classifier
from stl_ray.pipeline.defended import load_defense


class Attacked(NamedTuple):
    """A victim and whatever can change its answers."""

    victim: Victim
    identity: Any  # JSON-able; the classifier's own for one without defense
    classes: Tensor  # (n,) int64, by class of the images that class among its own


def attacked_of(experiment: Experiment, attack: NamedAttack, names: Sequence[str], device: str = "cpu") -> Attacked:
    """The victim of an adversarial set.

    Args:
        experiment: where classifiers and defenses are.
        attack: the set, with its classifier.
        names: classes of the images.
        device: to load it to.

    Raises:
        IncompleteRunError: if the classifier or the space was not made yet.
        ConfigError: if the classifier, its function or the defense is unknown.
    """
    config = attack.victim
    loaded = load_classifier(experiment, classifier_of(attack), config.retrained_for, names, device)
    if config.defense is None:
        return Attacked(loaded.classifier, loaded.identity, loaded.classes)
    defense = load_defense(experiment, config.defense, device)
    defended = DefendedClassifier.of(defense, loaded.classifier, loaded.identity, experiment.seed)
    victim = defended.victim(config.gradient, config.samples)
    made_of = {
        "gradient": config.gradient,
        "samples": victim.samples,
        "defense": defense.identity(),
        "classifier": loaded.identity,
    }
    return Attacked(victim, made_of, loaded.classes)
