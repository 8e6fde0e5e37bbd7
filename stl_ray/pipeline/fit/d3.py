"""The dictionary of D3: of patches of the training images, those that differ."""

from collections.abc import Mapping
from typing import Any

from stl_ray.defenses.patch_dictionary import DictionaryRecipe, PatchDictionary
from stl_ray.pipeline.fit import patches
from stl_ray.pipeline.fitted import ArtifactFit
from stl_ray.runtime.shard_runner import ShardJob
from stl_ray.store import Dataset
from stl_ray.training.defenses.patch_dictionary import choose_atoms
from stl_ray.training.defenses.patches import smallest_keys

CANDIDATES = 10
"""Patches that are drawn for every atom."""


def job(fit: ArtifactFit, recipe: DictionaryRecipe) -> ShardJob:
    """The draw of the candidates."""
    draw = patches.PatchDraw(CANDIDATES * recipe.atoms, recipe.side, "d3 patch", recipe.classifier)
    return patches.shard_job(fit, draw)


def assemble(fit: ArtifactFit, recipe: DictionaryRecipe, drawn: Dataset, meta: Mapping[str, Any]) -> None:
    """Write the dictionary of the patches that were drawn.

    Raises:
        TrainingError: too few of them differ.
    """
    _, candidates = smallest_keys(patches.drawn(drawn), CANDIDATES * recipe.atoms)
    atoms = choose_atoms(candidates, side=recipe.side, atoms=recipe.atoms, similarity=recipe.similarity)
    PatchDictionary(atoms, "").save(fit.storage.root, meta)
