"""The estimate of what defenses are fitted with: the draw from the training images, and what is then made of it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stl_ray.defenses import ArtifactRecipe
from stl_ray.defenses.fitted_network import NetworkRecipe
from stl_ray.defenses.patch_dictionary import DictionaryRecipe
from stl_ray.defenses.quilting_index import build_index
from stl_ray.defenses.quilting_library import LibraryRecipe
from stl_ray.defenses.quilting_seams import SIDE
from stl_ray.pipeline.estimate.networks import training_steps
from stl_ray.pipeline.estimate.shards import shard_steps
from stl_ray.pipeline.estimate.steps import StepEstimate
from stl_ray.pipeline.fit.artifacts import job_of
from stl_ray.pipeline.fit.d3 import CANDIDATES
from stl_ray.pipeline.fitted import ArtifactFit
from stl_ray.training.defenses.patch_dictionary import BLOCK, choose_atoms, largest_cosine

_ATOMS = 4096
_INDEXED = 10_240  # patches: with fewer, faiss warns


def artifact_steps(fit: ArtifactFit) -> list[StepEstimate]:
    """The steps of an artifact; none where it is there. Needs a Ray that is connected.

    Raises:
        IncompleteRunError: the training split was not ingested, or the sample cannot be made.
        RunIdentityError: an artifact is there that was made otherwise.
    """
    job = job_of(fit)
    if job is None:
        return []
    drawn = shard_steps(job, fit.experiment)
    if isinstance(fit.recipe, NetworkRecipe):
        return [*drawn, *training_steps(fit)]
    return [*drawn, *_MADE[type(fit.recipe)](fit, fit.recipe)]


def _selection(fit: ArtifactFit, recipe: DictionaryRecipe) -> list[StepEstimate]:
    """D3's, at most: as if every candidate were compared with all atoms, and the last one were needed."""
    block = _noise(BLOCK, recipe.side)
    apart = _seconds(lambda: choose_atoms(block, side=recipe.side, atoms=1, similarity=1.0))
    atoms = torch.rand(min(recipe.atoms, _ATOMS), 3 * recipe.side**2)
    compared = _seconds(lambda: largest_cosine(atoms[:BLOCK], atoms)) * recipe.atoms / len(atoms)
    candidates = CANDIDATES * recipe.atoms
    cost = (apart + compared) * candidates / BLOCK
    size = 4.0 * recipe.atoms * 3 * recipe.side**2
    return [StepEstimate(fit.folder, "candidates", candidates, candidates, size, cost, 1, at_most=True)]


def _library(fit: ArtifactFit, recipe: LibraryRecipe) -> list[StepEstimate]:
    """Quilting's: its patches, and at most the time of an index of them, as if learning grew with their number."""
    count, size = recipe.patches, 3.0 * SIDE**2 * recipe.patches
    if recipe.search != "faiss":
        return [StepEstimate(fit.folder, "patches", count, count, size, 0.0, 1)]
    few = _noise(_INDEXED, SIDE)
    start = time.perf_counter()
    index = build_index(few)
    cost = (time.perf_counter() - start) * max(count / _INDEXED, 1)
    return [
        StepEstimate(fit.folder, "patches", count, count, size + index.nbytes * count / _INDEXED, cost, 1, at_most=True)
    ]


def _noise(count: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 3 * side**2), dtype=np.uint8)


def _seconds(work: Callable[[], object]) -> float:
    work()  # once before, for what is set up at the first time
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


_MADE: dict[type[ArtifactRecipe], Callable[[ArtifactFit, Any], list[StepEstimate]]] = {
    DictionaryRecipe: _selection,
    LibraryRecipe: _library,
}
