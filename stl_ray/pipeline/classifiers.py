"""The classifiers of an experiment: as they are given or were trained, and the one behind each defense."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stl_ray.config import ClassifierConfig, Experiment, Recipe
from stl_ray.defenses import is_transformation
from stl_ray.errors import ConfigError, IncompleteRunError
from stl_ray.models import (
    Classifier,
    build_classifier,
    classes_in,
    classes_of,
    classifier_identity,
    load,
    load_weights,
    logits_of,
)
from stl_ray.options import named
from stl_ray.pipeline.missing import no_classifiers
from stl_ray.store import Layout, Storage, require_same


class LoadedClassifier(NamedTuple):
    """A classifier on a device, in eval mode.

    Attributes:
        classifier: the network.
        identity: whatever can change its answers, JSON-able.
        classes: (n,) int64, by class of the images that class among its own.
        behind: identity of the defense that it was retrained for; None: of none.
    """

    classifier: Classifier
    identity: Any
    classes: Tensor
    behind: Any = None


def scored(experiment: Experiment) -> list[ClassifierConfig]:
    """The classifiers that the tables have a block for.

    Raises:
        ConfigError: there is none.
    """
    found = [item for item in experiment.classifiers if item.scored]
    if not found:
        raise no_classifiers(unscored=bool(experiment.classifiers)).error()
    return found


def classifier_config(experiment: Experiment, name: str) -> ClassifierConfig:
    """A classifier of the experiment by its name.

    Raises:
        ConfigError: there is none, with the nearest name.
    """
    return named({item.name: item for item in experiment.classifiers}, name, kind="classifier of this experiment")


def trained_for(experiment: Experiment, config: ClassifierConfig) -> list[str]:
    """Names of the defenses that a classifier has a network for; an ensemble has those of its members (`load_behind`)."""
    return [
        chosen.name
        for chosen in experiment.defenses
        if config.retrained_for(chosen.name) and is_transformation(chosen.defense)
    ]


def own_classes(config: ClassifierConfig, names: Sequence[str]) -> tuple[str, ...]:
    """The classes of a classifier: those that it says, those that its weights are known to have, or those of the images.

    Raises:
        StorageError, InputError: a file of classes, or the weights, cannot be read.
    """
    known = classes_in(config.weights) if config.classes is None and config.weights is not None else None
    return classes_of(config.classes, names) if known is None else known


def given(config: ClassifierConfig, names: Sequence[str], seed: int) -> Classifier:
    """A classifier before any training here: with the given weights, or random ones.

    Args:
        config: of the classifier.
        names: classes of the images.
        seed: the run seed, of random weights.

    Raises:
        StorageError: the given weights are not there.
        ArtifactError: they do not fit the classifier and the number of classes.
        ConfigError: there is no such architecture, or no such published weights.
    """
    classifier = build_classifier(config.architecture, own_classes(config, names), seed=seed)
    if config.weights is not None:
        load_weights(classifier, config.weights)
    return classifier


def load_classifier(
    experiment: Experiment, name: str, defense: str | None, names: Sequence[str], device: str = "cpu"
) -> LoadedClassifier:
    """A classifier of the experiment, ready to answer.

    Args:
        experiment: where it is.
        name: of the classifier.
        defense: the defense that it was retrained for; None: as it is without.
        names: classes of the images.
        device: to load it to.

    Raises:
        ConfigError: there is no such classifier, or it was not to be retrained for this defense.
        IncompleteRunError: it was not trained yet.
        ArtifactError: its files are unreadable, or the classes of the images are not among its own.
    """
    config = classifier_config(experiment, name)
    behind = None
    if defense is None and not config.trained:
        classifier = given(config, names, experiment.seed)
        identity: Any = classifier_identity(classifier)
    else:
        if defense is not None and not config.retrained_for(defense):
            raise ConfigError(
                "the classifier is not retrained for this defense", item=name, expected="retrain, with it", got=defense
            )
        storage = Storage.open(experiment.root).below(Layout(experiment.root).classifier(name, defense))
        if not storage.exists("model.json"):
            raise IncompleteRunError("there is no such classifier; run `stl-ray train` first", item=storage.root)
        classifier, record = load(storage.root), storage.read_json("model.json")
        identity, meta = str(record["digest"]), record["meta"]
        behind = meta.get("defense")
        _require_its_recipe(experiment, config, defense, names, meta, storage.root)
    classes = torch.tensor(logits_of(names, classifier.class_names, name), device=device)
    return LoadedClassifier(classifier.to(device).eval(), identity, classes, behind)


def _require_its_recipe(
    experiment: Experiment,
    config: ClassifierConfig,
    defense: str | None,
    names: Sequence[str],
    meta: Mapping[str, Any],
    where: str,
) -> None:
    """Refuse a classifier of an earlier configuration, which would pass for the one at hand."""
    made, recipe = meta.get("identity"), config.recipe if defense is None else config.retrain
    if made is None or recipe is None:
        return  # it was put there by hand
    wanted = {
        "architecture": config.architecture,
        "classes": list(own_classes(config, names)),
        "recipe": recipe.model_dump(mode="json", include=set(Recipe.model_fields)),
        "seed": experiment.seed,
    }
    require_same({key: made.get(key) for key in wanted}, wanted, where)
