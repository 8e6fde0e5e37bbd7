"""Datasets, classifiers and defenses from earlier jobs, with an error that names the job to run."""

from collections.abc import Callable, Iterable

import torch
from pydantic import ValidationError

from stl_ray.config import Experiment, NamedDefense, space_of
from stl_ray.csc import active_set, choose_method
from stl_ray.defenses import Defense, make_defense, required_by
from stl_ray.errors import ArtifactError, IncompleteRunError
from stl_ray.options import named
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
    experiment: Experiment, device: str = "cpu", names: Iterable[str] | None = None
) -> dict[str, Defense]:
    """Defenses of an experiment by their names in it, with what they require of it; a space is loaded once.

    Args:
        experiment: which defenses and spaces there are.
        device: to load spaces to.
        names: of those to make, in their order; None: all.

    Raises:
        IncompleteRunError: if a defense requires an artifact that was not made yet.
        RunIdentityError: if a space was fitted by other settings.
        InputError, ArtifactError: if a space to load is not there, or an artifact is unreadable.
        ConfigError: if a defense, an option or a space is unknown, or the space does not do for the defense.
    """
    known = {item.name: item for item in experiment.defenses}
    wanted = known if names is None else dict.fromkeys(names)
    spaces: dict[str, QuasiNaturalSpace] = {}

    def space(chosen: NamedDefense) -> QuasiNaturalSpace:
        config = space_of(experiment, chosen)
        if config.name not in spaces:
            spaces[config.name] = load_space(experiment, config, device)
        return spaces[config.name]

    loaders: dict[str, Callable[[NamedDefense], object]] = {
        "space": space,
        "solver": lambda chosen: experiment.solver.method,
    }
    return {
        chosen.name: make_defense(
            chosen.defense, chosen.options, {name: loaders[name](chosen) for name in required_by(chosen.defense)}
        )
        for chosen in (named(known, name, kind="defense of this experiment") for name in wanted)
    }
