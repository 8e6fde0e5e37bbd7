"""Datasets, classifiers and defenses from earlier jobs, with an error that names the job to run."""

from collections.abc import Callable

import torch
from pydantic import ValidationError

from stl_ray.config import Experiment
from stl_ray.csc import active_set, choose_method
from stl_ray.defenses import Defense, make_defense, required_by
from stl_ray.errors import ArtifactError, IncompleteRunError
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


def stored_experiment(root: str) -> Experiment:
    """The configuration of an experiment as its last finished job left it, with its root where it is now.

    Raises:
        IncompleteRunError: no job of an experiment has ended well there.
        ArtifactError: it is of another version.
    """
    storage = Storage.open(root)
    if not storage.exists(Layout.experiment):
        raise IncompleteRunError("no experiment was run here", item=storage.root, expected=Layout.experiment)
    try:
        experiment = Experiment.model_validate_json(storage.read(Layout.experiment))
    except ValidationError as error:
        raise ArtifactError(
            f"not the experiment of this version ({error.error_count()} keys differ)", item=storage.root
        ) from error
    return experiment.model_copy(update={"root": root})


def with_solver(experiment: Experiment) -> Experiment:
    """The experiment with its solver settled, down to the instruction set: all nodes use it and identities name it."""
    method: str = experiment.stl.method
    device = device_of(experiment.ray)
    if method == "auto" and device == "cuda" and not torch.cuda.is_available():
        method = "fused"  # the nodes that have the GPUs refuse it by name where they lack Triton
    elif method == "auto":
        method = choose_method(torch.float32, torch.device(device))
    if method == "active_set" and active_set.available():
        method = f"active_set/{active_set.instruction_sets()[0]}"
    if method == experiment.stl.method:
        return experiment
    return experiment.model_copy(update={"stl": experiment.stl.model_copy(update={"method": method})})


def make_defenses(experiment: Experiment, device: str = "cpu") -> dict[str, Defense]:
    """The defenses of an experiment by their names in it, with what they require of it.

    Raises:
        IncompleteRunError: if a defense requires an artifact that was not made yet.
        ArtifactError: if an artifact is unreadable.
        ConfigError: if a defense or an option is unknown.
    """
    required = {name for chosen in experiment.defenses for name in required_by(chosen.defense)}
    resources = {name: load(experiment, device) for name, load in _RESOURCES.items() if name in required}
    return {chosen.name: make_defense(chosen.defense, chosen.options, resources) for chosen in experiment.defenses}


def _space(experiment: Experiment, device: str) -> QuasiNaturalSpace:
    folder = Storage.open(experiment.root).below(Layout.space)
    if not folder.exists("space.json"):
        raise IncompleteRunError("there is no space yet; run `stl-ray fit` first", item=folder.root)
    return QuasiNaturalSpace.load(folder.root).to(device)


_RESOURCES: dict[str, Callable[[Experiment, str], object]] = {
    "space": _space,
    "stl": lambda experiment, device: experiment.stl,
}
"""Loaders of the resources that defenses may require, from an experiment to a device."""
