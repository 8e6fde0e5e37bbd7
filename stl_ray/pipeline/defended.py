"""Defenses with the classifiers behind them, as every job loads them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from torch import Tensor

from stl_ray.config import ClassifierConfig, Experiment
from stl_ray.defenses import Calibration, Defended, Defense, Detecting, Ensemble, identity_in_run, make_defense
from stl_ray.errors import IncompleteRunError
from stl_ray.evaluation import UNDEFENDED, DefendedClassifier
from stl_ray.pipeline.classifiers import LoadedClassifier, classifier_config, load_classifier, scored
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.detectors import DetectorFit
from stl_ray.store import Layout, require_same


@dataclass(frozen=True)
class Block:
    """A scored classifier, and every defense with the classifier as it is deployed behind it.

    Attributes:
        config: of the classifier.
        vanilla: the classifier as it is without defenses.
        defended: by name of the defense, "none" first.
        behind: of the defenses that the classifier was retrained for, by name: each with the vanilla classifier behind it.
    """

    config: ClassifierConfig
    vanilla: LoadedClassifier
    defended: dict[str, DefendedClassifier]
    behind: dict[str, DefendedClassifier] = field(default_factory=dict)

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
        model = self.defended[defense].victim("none")
        if defense not in self.behind:
            return {"vanilla": model, "retrained": model}
        return {"vanilla": self.behind[defense].victim("none"), "retrained": model}

    def detects(self, defense: str) -> bool:
        """Whether a defense refuses images."""
        return isinstance(self.defended[defense].defense, Detecting)

    def detectors(self, experiment: Experiment, defense: str) -> dict[str, DetectorFit]:
        """By setting, the detector of a defense; none where it has none, and of `retrained` only where there is one."""
        if not self.detects(defense):
            return {}
        deployed = self.defended[defense]

        def fit(one: DefendedClassifier, retrained_for: str | None) -> DetectorFit:
            return DetectorFit.of(experiment, self.name, retrained_for, defense, one)

        if defense not in self.behind:
            return {"vanilla": fit(deployed, None)}
        return {"vanilla": fit(self.behind[defense], None), "retrained": fit(deployed, defense)}

    def with_detectors(self, experiment: Experiment, stand_ins: Mapping[str, Calibration]) -> "Block":
        """The block with every detector that is calibrated.

        Args:
            experiment: whose block this is.
            stand_ins: by folder, calibrations in the place of those that are not made yet, for an estimate.
        """
        defended, behind = dict(self.defended), dict(self.behind)
        for name in self.defended:
            for setting, fit in self.detectors(experiment, name).items():
                place = behind if setting == "vanilla" and name in behind else defended
                place[name] = fit.attached(place[name], stand_ins.get(fit.folder))
        return replace(self, defended=defended, behind=behind)

    def require_detectors(self) -> None:
        """Refuse to judge by a detector that is not calibrated.

        Raises:
            IncompleteRunError: names the defense.
        """
        for name, one in (*self.defended.items(), *self.behind.items()):
            if isinstance(one.defense, Detecting) and one.detector is None:
                raise IncompleteRunError(
                    "its detector is not calibrated; run `stl-ray evaluate`", item=f"{name}, {self.name}"
                )

    def labels(self, labels: Sequence[int]) -> Tensor:
        """Labels (B,) of images as classes of the classifier, int64 on its device."""
        return self.vanilla.classes[list(labels)]


def load_block(
    experiment: Experiment, classifier: str, names: Sequence[str], device: str, defenses: Mapping[str, Defense]
) -> Block:
    """A classifier of an experiment with its defenses, without their detectors.

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
    load = cache(lambda own: load_classifier(experiment, classifier, own, names, device))
    vanilla = load(None)
    defended, behind = {}, {}
    for name, defense in {UNDEFENDED: make_defense(UNDEFENDED, {}, {}), **defenses}.items():
        own = name != UNDEFENDED and config.retrained_for(name)
        # One network in memory for all that it stands behind.
        deployed, loaded = load_behind(experiment, classifier, name, defense, load) if own else (defense, vanilla)
        defended[name] = DefendedClassifier.of(deployed, loaded.classifier, loaded.identity, experiment.seed)
        if own:
            behind[name] = DefendedClassifier.of(defense, vanilla.classifier, vanilla.identity, experiment.seed)
    return Block(config, vanilla, defended, behind)


def load_behind(
    experiment: Experiment,
    classifier: str,
    name: str,
    defense: Defense,
    load: Callable[[str | None], LoadedClassifier],
) -> tuple[Defense, LoadedClassifier]:
    """A defense as it is deployed, and the classifier that was retrained for it.

    Of an ensemble each member has the network that was retrained for that member, and the identity is of all of them.

    Args:
        experiment: of the defense.
        classifier: its name.
        name: of the defense.
        defense: as `make_defenses` makes it.
        load: the classifier as it was retrained for the transformation of a name; of None, as it is without.

    Raises:
        RunIdentityError: a classifier was retrained for a defense of other settings.
    """

    def loaded(own: str, transformation: Defense) -> LoadedClassifier:
        found = load(own)
        if found.behind is not None:
            where = Layout(experiment.root).classifier(classifier, own)
            require_same(found.behind, identity_in_run(transformation, experiment.seed), where)
        return found

    if not isinstance(defense, Ensemble):
        return defense, loaded(name, defense)
    own = {
        member: loaded(member, made)
        for member, made in zip(defense.members, defense.of, strict=True)
        if member != UNDEFENDED
    }
    vanilla = load(None)
    networks = {member: network.classifier for member, network in own.items()}
    identity = {UNDEFENDED: vanilla.identity, **{member: network.identity for member, network in own.items()}}
    return replace(defense, networks=networks), vanilla._replace(identity=identity)


def load_blocks(
    experiment: Experiment, names: Sequence[str], device: str, stand_ins: Mapping[str, Calibration] | None = None
) -> dict[str, Block]:
    """The block of every scored classifier by its name, in the order of the tables, with the detectors that are calibrated.

    Args:
        experiment: of the classifiers and defenses.
        names: classes of the images.
        device: to load them to.
        stand_ins: by folder, calibrations of detectors, for an estimate.

    Raises:
        ConfigError: if there is no classifier to score.
        IncompleteRunError: if a space, a classifier, or the training images of a detector are not there yet.
    """
    classifiers, defenses = scored(experiment), make_defenses(experiment, device)
    blocks = (load_block(experiment, item.name, names, device, defenses) for item in classifiers)
    return {block.name: block.with_detectors(experiment, stand_ins or {}) for block in blocks}
