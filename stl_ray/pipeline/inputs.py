"""Datasets, classifiers and defenses from earlier jobs, with an error that names the job to run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from pydantic import ValidationError

from stl_ray.config import Experiment, NamedDefense, space_of
from stl_ray.csc import active_set, choose_method
from stl_ray.defenses import Defense, DefenseOptions, Transformation, make_defense, options_of
from stl_ray.errors import ArtifactError, ConfigError, IncompleteRunError
from stl_ray.models import Classifier
from stl_ray.options import named
from stl_ray.pipeline.batches import class_names
from stl_ray.pipeline.classifiers import load_classifier
from stl_ray.pipeline.spaces import load_space
from stl_ray.runtime.session import device_of
from stl_ray.space import QuasiNaturalSpace
from stl_ray.store import Dataset, Layout, Storage


def dataset_of(root: str, folder: str) -> Dataset:
    """The finished dataset in a folder of the experiment.

    Raises:
        IncompleteRunError: if it is not finished; the message names the job that makes it.
    """
    try:
        return Dataset.open(Layout(root).uri(folder))
    except IncompleteRunError as error:
        message = f"there is no finished dataset; run `stl-ray {folder.partition('/')[0]}` first"
        raise IncompleteRunError(message, item=error.item, expected=error.expected) from error


def recorded(root: str) -> Experiment:
    """The configuration of another experiment, as its last job left it.

    Raises:
        IncompleteRunError: if none of its jobs has ended well.
        ArtifactError: if the record cannot be read by this version.
    """
    storage = Storage.open(root)
    if not storage.exists(Layout.experiment):
        raise IncompleteRunError("there is no finished experiment; run its jobs first", item=storage.root)
    try:
        return Experiment.model_validate_json(storage.read(Layout.experiment))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = f"not a configuration of this version ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        raise ArtifactError(message, item=storage.at(Layout.experiment)) from error


def with_solver(experiment: Experiment) -> Experiment:
    """The experiment with its solver settled, down to the instruction set: all nodes use it and identities name it."""
    method: str = experiment.solver.method
    device = device_of(experiment.ray)
    if method == "auto" and device == "cuda" and not torch.cuda.is_available():
        method = "fused"  # the nodes that have the GPUs refuse it by name where they lack Triton
    elif method == "auto":
        method = choose_method(torch.float32, torch.device(device))
    if method == "active_set" and active_set.available():
        method = f"active_set/{active_set.instruction_sets()[0]}"
    if method == experiment.solver.method:
        return experiment
    return experiment.model_copy(update={"solver": experiment.solver.model_copy(update={"method": method})})


def make_defenses(
    experiment: Experiment, device: str = "cpu", *, names: Iterable[str] | None = None
) -> dict[str, Defense]:
    """The defenses of an experiment by their names in it, with what they require of it; a space is loaded once.

    Args:
        experiment: which defenses and spaces there are.
        device: to load spaces to.
        names: of the defenses that are wanted; None: all.

    Raises:
        IncompleteRunError: if a defense requires an artifact or a classifier that was not made yet.
        RunIdentityError: if a space was fitted by other settings.
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
        if resource == "members":
            return {name: transformation(self.made(name)) for name in options.members}
        if resource == "classifier":
            return self._classifier(options)
        raise AssertionError(f"nothing makes the resource {resource}")

    def _space(self, item: NamedDefense) -> QuasiNaturalSpace:
        config = space_of(self.experiment, item)
        if config.name not in self._spaces:
            self._spaces[config.name] = load_space(self.experiment, config, self.device)
        return self._spaces[config.name]

    def _classifier(self, options: DefenseOptions) -> Classifier:
        assert options.replacement is not None
        classes = class_names(dataset_of(self.experiment.root, Layout(self.experiment.root).ingested("test")))
        return load_classifier(self.experiment, options.replacement, None, classes, self.device).classifier


def transformation(defense: Defense) -> Transformation:
    """The defense, if it is one whose images are stored and trained on.

    Raises:
        ConfigError: it has several views of an image, or changes the network.
    """
    if isinstance(defense, Transformation):
        return defense
    raise ConfigError("it makes no image of an image", item=defense.name, expected="a transformation, such as stl")
