"""The estimate of the training of a defense's network: one worker really trains it, on a few windows of noise."""

import time

import torch

from stl_ray.defenses.fitted_network import NetworkRecipe
from stl_ray.pipeline.estimate.sampling import sample
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.pipeline.fit import windows
from stl_ray.pipeline.fit.artifacts import record_of
from stl_ray.pipeline.fit.networks import training_folder
from stl_ray.pipeline.fitted import ArtifactFit
from stl_ray.runtime.concurrency import bind
from stl_ray.runtime.ray_train import history_of
from stl_ray.runtime.session import device_of
from stl_ray.store import Storage
from stl_ray.training.defenses.networks import weights_of

_BATCHES = 4


def training_steps(fit: ArtifactFit) -> list[StepEstimate]:
    """The training that an artifact is made by; none where it is there, or is no network.

    Raises:
        IncompleteRunError: the training split was not ingested, or the sample cannot be made.
    """
    recipe, config = fit.recipe, fit.experiment.ray
    if fit.made or not isinstance(recipe, NetworkRecipe):
        return []
    folder, count = training_folder(fit), windows.count(fit, recipe)
    done = len(history_of(Storage.open(fit.experiment.root).below(folder), record_of(fit)))
    cpus, gpus = config.cpus_per_actor, config.gpus_per_actor
    seconds, size = sample(_measured, fit, recipe, resources=config, cpus=cpus, gpus=gpus, item=folder)
    left = count * (recipe.epochs - done)
    return [StepEstimate(folder, "windows", count * recipe.epochs, left, size, seconds * left, workers=1)]


def _measured(fit: ArtifactFit, recipe: NetworkRecipe) -> tuple[float, float]:
    """Seconds of a window in an epoch; bytes of the checkpoint and of the artifact."""
    bind(fit.experiment.ray.cpus_per_actor)
    drawn = torch.randint(256, (max(2, _BATCHES * recipe.batch_size), 3, recipe.side, recipe.side), dtype=torch.uint8)
    twice = recipe.model_copy(update={"epochs": 2})
    device = torch.device(device_of(fit.experiment.ray))
    epochs = windows.TRAININGS[type(recipe)].train(drawn, twice, seed=0, device=device)
    next(epochs)  # the first use loads and compiles
    start = time.monotonic()
    state = next(epochs).state()
    seconds = (time.monotonic() - start) / len(drawn)
    return seconds, sum(tensor.nbytes for tensor in (*state.values(), *weights_of(state).values()))
