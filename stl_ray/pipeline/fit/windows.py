"""Networks of defenses that are trained on windows of the training images: those of the smallest keys, one of an image."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stl_ray.defenses.fitted_network import NetworkRecipe
from stl_ray.defenses.magnet_autoencoder import AutoencoderRecipe
from stl_ray.defenses.pixel_cnn import PixelCnnRecipe
from stl_ray.pipeline.fit import networks, patches
from stl_ray.pipeline.fitted import ArtifactFit
from stl_ray.pipeline.inputs import training_images
from stl_ray.runtime.shard_runner import ShardJob
from stl_ray.store import Dataset
from stl_ray.training.defenses.magnet import train_magnet
from stl_ray.training.defenses.networks import NetworkEpoch, weights_of
from stl_ray.training.defenses.patches import smallest_keys
from stl_ray.training.defenses.pixel_cnn import train_pixel_cnn

TRAININGS: dict[type[NetworkRecipe], Callable[..., Iterator[NetworkEpoch]]] = {
    AutoencoderRecipe: train_magnet,
    PixelCnnRecipe: train_pixel_cnn,
}
"""(windows, recipe, seed=, device=, state=) -> the epochs that are left, by the recipe."""


def job(fit: ArtifactFit, recipe: NetworkRecipe) -> ShardJob:
    """The draw of the windows, one of each image: of one that is not larger, all of it."""
    return patches.shard_job(fit, patches.PatchDraw(count(fit, recipe), recipe.side, recipe.purpose))


def count(fit: ArtifactFit, recipe: NetworkRecipe) -> int:
    """How many windows there are, unless images are set aside."""
    return recipe.windows_of(training_images(fit.experiment).rows)


def assemble(fit: ArtifactFit, recipe: NetworkRecipe, drawn: Dataset, meta: Mapping[str, Any]) -> None:
    """Train the network and write it."""
    training = partial(epochs, drawn, recipe, fit.experiment.seed)
    state = networks.trained(fit, training, recipe.epochs, meta)
    recipe.artifact.of(weights_of(state)).save(fit.storage.root, meta)


def epochs(
    drawn: Dataset, recipe: NetworkRecipe, seed: int, device: torch.device, state: Mapping[str, Tensor] | None
) -> Iterator[NetworkEpoch]:
    """The epochs that are left of a training on the windows that were drawn."""
    _, values = smallest_keys(patches.drawn(drawn), recipe.windows)
    windows = torch.from_numpy(values).view(-1, 3, recipe.side, recipe.side)
    return TRAININGS[type(recipe)](windows, recipe, seed=seed, device=device, state=state)
