"""What each job needs of an experiment, looked at before any work: images of a split, classifiers.

Whatever uses something that is made here from training images needs these, so that it is known before hours of work that a
space or a classifier can never be made.
"""

from collections.abc import Collection, Iterable, Iterator

from stl_ray.attacks import Universal, make_attack
from stl_ray.config import ClassifierConfig, Experiment, NamedAttack, NamedDefense, classifier_of, space_of
from stl_ray.defenses import FittedOptions, is_transformation, options_of
from stl_ray.pipeline.classifiers import trained_for
from stl_ray.pipeline.missing import (
    Missing,
    asked_for,
    no_classifiers,
    no_images,
    no_test_images,
    no_training_images,
)


def require_needs(experiment: Experiment, jobs: Iterable[str]) -> None:
    """Ask for what jobs need and the experiment leaves out; its names are known to be right.

    Raises:
        ConfigError: with the keys, the reasons and the lines to add.
    """
    found: dict[str, Missing] = {}
    users: list[str] = []
    for job in jobs:
        for item in _missing(experiment, job):
            found.setdefault(item.key, item)
        users += _made_of_training_images(experiment, job)
    missing = [*found.values()]
    if users and experiment.ingest.train is None:
        missing.append(no_training_images(list(dict.fromkeys(users)), _instead(experiment, users)))
    if missing:
        raise asked_for(missing)


def crafted_on(experiment: Experiment, attack: NamedAttack) -> list[ClassifierConfig]:
    """The classifiers that an attack set is crafted on."""
    name = attack.victim.classifier
    return [item for item in experiment.classifiers if (item.scored if name is None else item.name == name)]


def detects(experiment: Experiment, defense: str) -> bool:
    """Whether a defense of the experiment refuses images."""
    return any(options_of(item.defense, item.options).detects for item in experiment.defenses if item.name == defense)


def _missing(experiment: Experiment, job: str) -> Iterator[Missing]:
    """What a job needs, but for what is made from training images."""
    if job == "ingest" and not experiment.ingest.sources:
        yield no_images()
    if job in ("train", "attack", "evaluate"):
        if not experiment.classifiers:
            yield no_classifiers(job)
        elif job != "train" and not any(item.scored for item in experiment.classifiers):
            yield no_classifiers(job, unscored=True)
    purified = job == "project" and experiment.defenses and "test" in experiment.project.splits
    if experiment.ingest.test is None and (job in ("attack", "evaluate") or purified):
        yield no_test_images(job)


def _made_of_training_images(experiment: Experiment, job: str) -> Iterator[str]:
    """In words, what a job makes from training images, or uses of what is made here from them."""
    if job == "fit":
        yield from (_space(space.name) for space in experiment.spaces if space.load is None)
        yield from (_artifact(item) for item in experiment.defenses if _fitted_here(item))
    if job == "project":
        yield from (
            f"{item.name} retrained for {chosen.name}"
            for item in experiment.classifiers
            for chosen in experiment.defenses
            if item.retrain is not None and item.retrain.projection == "stored" and item.retrained_for(chosen.name)
        )
    used: set[str] = set()
    for item, defense in _classifiers(experiment, job):
        if defense is not None:
            yield f"{item.name} retrained for {defense}"
            used.add(defense)
        elif item.trained:
            yield _classifier(item.name)
    if job == "attack":
        used |= {attack.victim.defense for attack in experiment.attack.sets if attack.victim.defense is not None}
        for attack in experiment.attack.sets:
            if isinstance(make_attack(attack.attack, attack.options, attack.engine), Universal):
                yield f"the attack set {attack.name}, whose one vector is made from them"
    used |= {name for item in experiment.defenses if item.name in used for name in _members(item)}
    for chosen in experiment.defenses:
        stored = job == "project" and is_transformation(chosen.defense)
        if stored or job == "evaluate" or chosen.name in used:
            yield from _fitted(experiment, chosen)
        if job == "evaluate" or (job == "attack" and chosen.name in used):
            yield from [_detector(chosen)] * detects(experiment, chosen.name)


def _classifiers(experiment: Experiment, job: str) -> Iterator[tuple[ClassifierConfig, str | None]]:
    """The classifiers that a job trains or loads, each with the defense that it is retrained for."""
    if job in ("train", "evaluate"):
        for item in experiment.classifiers:
            if job == "train" or item.scored:
                yield item, None
                yield from ((item, name) for name in trained_for(experiment, item))
    if job in ("attack", "evaluate"):
        for attack in experiment.attack.sets:
            yield from ((item, attack.victim.retrained_for) for item in crafted_on(experiment, attack))


def _members(chosen: NamedDefense) -> tuple[str, ...]:
    return options_of(chosen.defense, chosen.options).members


def _fitted(experiment: Experiment, chosen: NamedDefense) -> Iterator[str]:
    """The space that a defense projects onto and the classifier that it looks with, where they are to be made here."""
    requires = options_of(chosen.defense, chosen.options).requires
    if "space" in requires and (space := space_of(experiment, chosen)).load is None:
        yield _space(space.name)
    if _fitted_here(chosen):
        yield _artifact(chosen)
    if "classifier" in requires and (classifier := classifier_of(experiment, chosen)).trained:
        yield _classifier(classifier.name)


def _instead(experiment: Experiment, users: Collection[str]) -> str:
    """What does without training images."""
    ways = [
        f"load it: `spaces: [{{name: {space.name}, load: FILE.npy}}]`"
        for space in experiment.spaces
        if _space(space.name) in users
    ]
    ways += [
        f"use it as it is: `weights: FILE` of {item.name}"
        for item in experiment.classifiers
        if _classifier(item.name) in users
    ]
    ways += [
        f"load it: `load: FOLDER` in the options of {item.name}"
        for item in experiment.defenses
        if _artifact(item) in users
    ]
    ways += [
        f"leave its detectors out: `refuse: false` in the options of {item.name}"
        for item in experiment.defenses
        if _detector(item) in users and "refuse" in type(options_of(item.defense, item.options)).model_fields
    ]
    return f"or {'; '.join(ways)}" if ways else ""


def _fitted_here(chosen: NamedDefense) -> bool:
    options = options_of(chosen.defense, chosen.options)
    return isinstance(options, FittedOptions) and options.load is None


def _artifact(chosen: NamedDefense) -> str:
    return f"the defense {chosen.name}, which is fitted to them"


def _detector(chosen: NamedDefense) -> str:
    return f"the detector of {chosen.name}, which is calibrated on them"


def _space(name: str) -> str:
    return f"the space {name}"


def _classifier(name: str) -> str:
    return f"the classifier {name}"
