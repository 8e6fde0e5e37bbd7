"""The victims of adversarial sets: each a classifier of the experiment, alone or behind a defense."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from torch import Tensor

from stl_ray.config import Experiment, NamedAttack
from stl_ray.defenses import Calibration, Defense, Detecting
from stl_ray.evaluation import DefendedClassifier
from stl_ray.models import Victim
from stl_ray.pipeline.attack.sets import classifier_of
from stl_ray.pipeline.classifiers import LoadedClassifier, load_classifier
from stl_ray.pipeline.defended import load_behind
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.detectors import DetectorFit


class Attacked(NamedTuple):
    """A victim and whatever can change its answers."""

    victim: Victim
    identity: Any  # JSON-able; the classifier's own for one without defense
    classes: Tensor  # (n,) int64, by class of the images that class among its own
    detector: DetectorFit | None = None  # of a defense that refuses images, which the victim has once it is calibrated


def victims_of(
    sets: Sequence[NamedAttack],
    experiment: Experiment,
    names: Sequence[str],
    device: str = "cpu",
    stand_ins: Mapping[str, Calibration] | None = None,
) -> list[Attacked]:
    """The victims of adversarial sets; each classifier, defense and space is loaded once.

    Args:
        sets: with their classifiers.
        experiment: where classifiers and defenses are.
        names: classes of the images.
        device: to load them to.
        stand_ins: by folder, calibrations of detectors, for an estimate.

    Raises:
        IncompleteRunError: if a classifier, a space, or the training images of a detector are not there yet.
        ConfigError: if a classifier, its function or a defense is unknown.
    """
    chosen = [attack.victim.defense for attack in sets if attack.victim.defense is not None]
    defenses = make_defenses(experiment, device, names=chosen)
    load = cache(lambda classifier, own: load_classifier(experiment, classifier, own, names, device))
    return [_attacked(attack, load, defenses, experiment, stand_ins or {}) for attack in sets]


def _attacked(
    attack: NamedAttack,
    load: Callable[[str, str | None], LoadedClassifier],
    defenses: Mapping[str, Defense],
    experiment: Experiment,
    stand_ins: Mapping[str, Calibration],
) -> Attacked:
    config, classifier = attack.victim, classifier_of(attack)
    if config.defense is None:
        loaded = load(classifier, config.retrained_for)
        return Attacked(loaded.classifier, loaded.identity, loaded.classes)
    defense = defenses[config.defense]
    if config.retrained_for == config.defense:
        defense, loaded = load_behind(experiment, classifier, config.defense, defense, partial(load, classifier))
    else:
        loaded = load(classifier, config.retrained_for)
    defended = DefendedClassifier.of(defense, loaded.classifier, loaded.identity, experiment.seed)
    fit = None
    if isinstance(defense, Detecting):
        fit = DetectorFit.of(experiment, classifier, config.retrained_for, config.defense, defended)
        defended = fit.attached(defended, stand_ins.get(fit.folder))
    victim = defended.victim(config.gradient, config.samples)
    made_of = {
        "gradient": config.gradient,
        "samples": victim.samples,
        "defense": defense.identity(),
        "classifier": loaded.identity,
    }
    if fit is not None:
        made_of["detector"] = fit.identity["detector"]
    return Attacked(victim, made_of, loaded.classes, fit)
