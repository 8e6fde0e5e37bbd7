"""The denoiser of the diffusion defense: trained on windows of the training images, those of the smallest keys."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stl_ray.defenses.diffusion_denoiser import DenoiserRecipe
from stl_ray.pipeline.fit import networks, patches
from stl_ray.pipeline.fitted import ArtifactFit
from stl_ray.pipeline.inputs import training_images
from stl_ray.runtime.shard_runner import ShardJob
from stl_ray.store import Dataset
from stl_ray.training.defenses.diffusion import DiffusionEpoch, denoiser_of, train_diffusion
from stl_ray.training.defenses.patches import smallest_keys


def job(fit: ArtifactFit, recipe: DenoiserRecipe) -> ShardJob:
    """The draw of the windows, one of each image: of one that is not larger, all of it."""
    count = min(recipe.windows, training_images(fit.experiment).rows)
    return patches.shard_job(fit, patches.PatchDraw(count, recipe.side, "diffusion window"))


def assemble(fit: ArtifactFit, recipe: DenoiserRecipe, drawn: Dataset, meta: Mapping[str, Any]) -> None:
    """Train the denoiser and write it."""
    training = partial(_epochs, drawn, recipe, fit.experiment.seed)
    state = networks.trained(fit, training, recipe.epochs, meta)
    denoiser_of(state, recipe).save(fit.storage.root, meta)


def _epochs(
    drawn: Dataset, recipe: DenoiserRecipe, seed: int, device: torch.device, state: Mapping[str, Tensor] | None
) -> Iterator[DiffusionEpoch]:
    _, values = smallest_keys(patches.drawn(drawn), recipe.windows)
    windows = torch.from_numpy(values).view(-1, 3, recipe.side, recipe.side)
    return train_diffusion(windows, recipe, seed=seed, device=device, state=state)
