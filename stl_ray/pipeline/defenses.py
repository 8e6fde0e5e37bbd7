"""The defenses of an experiment, made with what they require of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stl_ray.config import Experiment, NamedDefense, classifier_of, space_of
from stl_ray.defenses import Defense, DefenseOptions, Transformation, make_defense, options_of
from stl_ray.errors import ConfigError
from stl_ray.models import Classifier
from stl_ray.options import named
from stl_ray.pipeline.batches import class_names
from stl_ray.pipeline.classifiers import load_classifier
from stl_ray.pipeline.fitted import load_fitted
from stl_ray.pipeline.inputs import dataset_of
from stl_ray.pipeline.spaces import load_space
from stl_ray.space import QuasiNaturalSpace
from stl_ray.store import Layout, Storage
from stl_ray.store.runs import MANIFEST


def make_defenses(
    experiment: Experiment, device: str = "cpu", *, names: Iterable[str] | None = None
) -> dict[str, Defense]:
    """The defenses of an experiment by their names in it, with what they require of it; a space is loaded once.

    Args:
        experiment: which defenses and spaces there are.
        device: to load spaces and classifiers to.
        names: of the defenses that are wanted; None: all.

    Raises:
        IncompleteRunError: if a defense requires an artifact that was not made yet.
        RunIdentityError: if a space was fitted, or a classifier trained, by other settings.
        InputError, ArtifactError: if a space to load is not there, or an artifact is unreadable.
        ConfigError: if a defense, an option or a space is unknown, or the space does not do for the defense.
    """
    listed = {item.name: item for item in experiment.defenses}
    makers = _Makers(experiment, listed, device)
    return {name: makers.made(name) for name in (listed if names is None else names)}


@dataclass
class _Makers:
    """Makes defenses and what they require, each once."""

    experiment: Experiment
    listed: Mapping[str, NamedDefense]
    device: str
    _spaces: dict[str, QuasiNaturalSpace] = field(default_factory=dict)
    _made: dict[str, Defense] = field(default_factory=dict)

    def made(self, name: str) -> Defense:
        """The defense of that name in the experiment."""
        if name not in self._made:
            item = named(self.listed, name, kind="defense of this experiment")
            options = options_of(item.defense, item.options)
            resources = {resource: self._resource(resource, item, options) for resource in options.requires}
            self._made[name] = make_defense(item.defense, item.options, resources)
        return self._made[name]

    def _resource(self, resource: str, item: NamedDefense, options: DefenseOptions) -> object:
        if resource == "space":
            return self._space(item)
        if resource == "solver":
            return self.experiment.solver.method
        if resource == "artifact":
            return load_fitted(self.experiment, options)
        if resource == "classifier":
            return self._classifier(item)
        if resource == "members":
            return {name: transformation(self.made(name)) for name in options.members}
        raise AssertionError(f"nothing makes the resource {resource}")

    def _space(self, item: NamedDefense) -> QuasiNaturalSpace:
        config = space_of(self.experiment, item)
        if config.name not in self._spaces:
            self._spaces[config.name] = load_space(self.experiment, config, self.device)
        return self._spaces[config.name]

    def _classifier(self, item: NamedDefense) -> Classifier:
        experiment, layout = self.experiment, Layout(self.experiment.root)
        tested = Storage.open(experiment.root).exists(f"{layout.ingested('test')}/{MANIFEST}")
        names = class_names(dataset_of(experiment.root, layout.ingested("test" if tested else "train")))
        return load_classifier(experiment, classifier_of(experiment, item).name, None, names, self.device).classifier


def transformation(defense: Defense) -> Transformation:
    """The defense, if it is one whose images are stored and trained on.

    Raises:
        ConfigError: it has several views of an image, or changes the network.
    """
    if isinstance(defense, Transformation):
        return defense
    raise ConfigError("it makes no image of an image", item=defense.name, expected="a transformation, such as stl")
