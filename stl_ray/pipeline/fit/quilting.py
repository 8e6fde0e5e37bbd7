"""The library of image quilting: patches of the training images, and an index of them where one is wanted."""

from collections.abc import Mapping
from typing import Any

import torch

from stl_ray.defenses.quilting_index import build_index, faiss
from stl_ray.defenses.quilting_library import LibraryRecipe, PatchLibrary
from stl_ray.defenses.quilting_seams import SIDE
from stl_ray.pipeline.fit import patches
from stl_ray.pipeline.fitted import ArtifactFit
from stl_ray.runtime.shard_runner import ShardJob
from stl_ray.store import Dataset
from stl_ray.training.defenses.patches import smallest_keys


def job(fit: ArtifactFit, recipe: LibraryRecipe) -> ShardJob:
    """The draw of the patches.

    Raises:
        ConfigError: an index is wanted, and faiss is not installed.
    """
    if recipe.search == "faiss":
        faiss()  # here, before anything is drawn
    return patches.shard_job(fit, patches.PatchDraw(recipe.patches, SIDE, "quilting patch"))


def assemble(fit: ArtifactFit, recipe: LibraryRecipe, drawn: Dataset, meta: Mapping[str, Any]) -> None:
    """Write the library of the patches that were drawn."""
    _, values = smallest_keys(patches.drawn(drawn), recipe.patches)
    index = build_index(values) if recipe.search == "faiss" else None
    PatchLibrary(torch.from_numpy(values), index).save(fit.storage.root, meta)
