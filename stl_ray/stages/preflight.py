"""What can be refused before any work: names that no registry knows, options that do not fit."""

from stl_ray.attacks import make_attack
from stl_ray.config import Experiment
from stl_ray.defenses import check_defense
from stl_ray.models import check_classifier


def preflight(experiment: Experiment) -> None:
    """Check every name and option of an experiment against its registry.

    Raises:
        ConfigError: with the nearest name that exists.
    """
    check_classifier(experiment.train.classifier)
    for attack in experiment.attack.sets:
        make_attack(attack.attack, attack.options)
    for defense in experiment.defenses:
        check_defense(defense.defense, defense.options)
