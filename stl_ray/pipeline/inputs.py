"""Datasets and configurations from earlier jobs, with an error that names the job to run."""

import torch
from pydantic import ValidationError

from stl_ray.config import Experiment
from stl_ray.csc import choose_method, native
from stl_ray.errors import ArtifactError, IncompleteRunError
from stl_ray.runtime.session import device_of
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


def training_images(experiment: Experiment) -> Dataset:
    """The images that spaces and other artifacts are fitted to.

    Raises:
        IncompleteRunError: if the training split was not ingested.
    """
    return dataset_of(experiment.root, Layout(experiment.root).ingested("train"))


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
    if method == "active_set" and native.available():
        method = f"active_set/{native.instruction_sets()[0]}"
    if method == experiment.solver.method:
        return experiment
    return experiment.model_copy(update={"solver": experiment.solver.model_copy(update={"method": method})})
