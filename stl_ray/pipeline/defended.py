"""Defenses with the classifiers behind them, as every job loads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from stl_ray.config import ClassifierConfig, Experiment
from stl_ray.defenses import Defended, Defense, identity_in_run, make_defense
from stl_ray.evaluation import UNDEFENDED, DefendedClassifier
from stl_ray.pipeline.classifiers import LoadedClassifier, classifier_config, load_classifier, scored
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.store import Layout, require_same


@dataclass(frozen=True)
class Block:
    """A scored classifier, and every defense with the classifier as it is deployed behind it.

    Attributes:
        config: of the classifier.
        vanilla: the classifier as it is without defenses.
        defended: by name of the defense, "none" first.
    """

    config: ClassifierConfig
    vanilla: LoadedClassifier
    defended: dict[str, DefendedClassifier]

    @property
    def name(self) -> str:
        """The classifier's name."""
        return self.config.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the classifier's logits."""
        return tuple(self.vanilla.classifier.class_names)

    def retrained(self, defense: str) -> bool:
        """Whether the classifier behind a defense was retrained for it."""
        return defense != UNDEFENDED and self.config.retrained_for(defense)

    def made_of(self, defense: str) -> dict[str, Any]:
        """Whatever can change a prediction behind a defense."""
        defended = self.defended[defense]
        return {
            "defense": defended.identity["defense"],
            "vanilla": self.vanilla.identity,
            "retrained": defended.identity["classifier"],
        }

    def models(self, defense: str) -> dict[str, Defended]:
        """By setting, the classifier behind a defense."""
        deployed = self.defended[defense]
        model = deployed.victim("none")
        if deployed.classifier is self.vanilla.classifier:
            return {"vanilla": model, "retrained": model}
        return {"vanilla": replace(model, classifier=self.vanilla.classifier), "retrained": model}

    def labels(self, labels: Sequence[int]) -> Tensor:
        """Labels (B,) of images as classes of the classifier, int64 on its device."""
        return self.vanilla.classes[list(labels)]


def load_block(
    experiment: Experiment, classifier: str, names: Sequence[str], device: str, defenses: Mapping[str, Defense]
) -> Block:
    """A classifier of an experiment with its defenses.

    Args:
        experiment: of the classifier.
        classifier: its name.
        names: classes of the images.
        device: to load it to.
        defenses: of the experiment, on the device.

    Raises:
        IncompleteRunError: if a classifier is not there yet.
    """
    config = classifier_config(experiment, classifier)
    vanilla = load_classifier(experiment, classifier, None, names, device)
    defended = {}
    for name, defense in {UNDEFENDED: make_defense(UNDEFENDED, {}, {}), **defenses}.items():
        own = name != UNDEFENDED and config.retrained_for(name)
        # One network in memory for all defenses that it stands behind as it is.
        loaded = load_classifier(experiment, classifier, name, names, device) if own else vanilla
        if loaded.behind is not None:
            where = Layout(experiment.root).classifier(classifier, name)
            require_same(loaded.behind, identity_in_run(defense, experiment.seed), where)
        defended[name] = DefendedClassifier.of(defense, loaded.classifier, loaded.identity, experiment.seed)
    return Block(config, vanilla, defended)


def load_blocks(experiment: Experiment, names: Sequence[str], device: str) -> dict[str, Block]:
    """The block of every scored classifier by its name, in the order of the tables.

    Args:
        experiment: of the classifiers and defenses.
        names: classes of the images.
        device: to load them to.

    Raises:
        ConfigError: if there is no classifier to score.
        IncompleteRunError: if a space or a classifier is not there yet.
    """
    classifiers, defenses = scored(experiment), make_defenses(experiment, device)
    return {item.name: load_block(experiment, item.name, names, device, defenses) for item in classifiers}
