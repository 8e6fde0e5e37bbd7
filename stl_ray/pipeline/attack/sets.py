"""The adversarial sets of an experiment: each configured one, for every classifier that it is crafted on."""

from stl_ray.config import Experiment, NamedAttack
from stl_ray.pipeline.classifiers import scored
from stl_ray.store import Layout


def set_on(attack: NamedAttack, classifier: str) -> NamedAttack:
    """The set as a classifier is scored on it: crafted on that one, where the configuration names no other."""
    if attack.victim.classifier is not None:
        return attack
    return attack.model_copy(update={"victim": attack.victim.model_copy(update={"classifier": classifier})})


def sets_of(experiment: Experiment, classifier: str) -> list[NamedAttack]:
    """The sets that a classifier is scored on, in the order of the tables."""
    return [set_on(attack, classifier) for attack in experiment.attack.sets]


def all_sets(experiment: Experiment) -> list[NamedAttack]:
    """Every set that is crafted, once."""
    found: dict[str, NamedAttack] = {}
    for classifier in scored(experiment):
        for attack in sets_of(experiment, classifier.name):
            found.setdefault(folder_of(attack), attack)
    return list(found.values())


def folder_of(attack: NamedAttack) -> str:
    """The folder of a set with its classifier."""
    return Layout("").attacked(classifier_of(attack), attack.name)


def classifier_of(attack: NamedAttack) -> str:
    """The name of the classifier that a set is crafted on."""
    if attack.victim.classifier is None:
        raise AssertionError(f"{attack.name} is crafted on no classifier yet")
    return attack.victim.classifier
