"""Networks of defenses that are trained on windows of the training images: those of the smallest keys, one of an image."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from stl_ray.defenses.diffusion_denoiser import DenoiserRecipe
from stl_ray.defenses.fitted_network import NetworkRecipe
from stl_ray.defenses.magnet_autoencoder import AutoencoderRecipe, MagnetAutoencoder
from stl_ray.defenses.pixel_cnn import FittedPixelCnn, PixelCnnRecipe
from stl_ray.pipeline.fit import networks, patches
from stl_ray.pipeline.fitted import ArtifactFit
from stl_ray.pipeline.inputs import training_images
from stl_ray.runtime.shard_runner import ShardJob
from stl_ray.store import Dataset
from stl_ray.training.defenses.diffusion import denoiser_of, train_diffusion
from stl_ray.training.defenses.magnet import train_magnet
from stl_ray.training.defenses.networks import NetworkEpoch, weights_of
from stl_ray.training.defenses.patches import smallest_keys
from stl_ray.training.defenses.pixel_cnn import train_pixel_cnn


class Fitted(Protocol):
    """A trained network as an artifact."""

    def save(self, folder: str, meta: Mapping[str, Any]) -> str:
        """Write it with a record; the digest."""


class Training(NamedTuple):
    """How a kind of network is trained.

    Attributes:
        train: (windows, recipe, seed=, device=, state=) -> the epochs that are left.
        fitted: (state after the last epoch, recipe) -> the artifact.
    """

    train: Callable[..., Iterator[NetworkEpoch]]
    fitted: Callable[[Mapping[str, Tensor], Any], Fitted]


TRAININGS: dict[type[NetworkRecipe], Training] = {
    AutoencoderRecipe: Training(train_magnet, lambda state, recipe: MagnetAutoencoder.of(weights_of(state))),
    PixelCnnRecipe: Training(train_pixel_cnn, lambda state, recipe: FittedPixelCnn.of(weights_of(state))),
    DenoiserRecipe: Training(train_diffusion, denoiser_of),
}
"""The kinds of networks by their recipes: a new one is one file in training/defenses/ and one row."""


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
    TRAININGS[type(recipe)].fitted(state, recipe).save(fit.storage.root, meta)


def epochs(
    drawn: Dataset, recipe: NetworkRecipe, seed: int, device: torch.device, state: Mapping[str, Tensor] | None
) -> Iterator[NetworkEpoch]:
    """The epochs that are left of a training on the windows that were drawn."""
    _, values = smallest_keys(patches.drawn(drawn), recipe.windows)
    windows = torch.from_numpy(values).view(-1, 3, recipe.side, recipe.side)
    return TRAININGS[type(recipe)].train(windows, recipe, seed=seed, device=device, state=state)
