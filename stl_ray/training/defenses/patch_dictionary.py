"""The dictionary of D3: natural patches that differ from each other, chosen greedily.

Candidates are tried in a fixed order. One without its channels' means and at norm 1 becomes an atom unless an atom is as
near as |cos| > `similarity`, until there are enough; signs do not count, since coefficients have them. Source: Moosavi-Dezfooli,
Shrivastava and Tuzel 2018, which selects greedily among patches that a saliency map prefers (`patches.draw_patches`); the
threshold, the order of candidates and the map are choices made here.
"""

from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stl_ray.errors import TrainingError

LEAST_CONTRAST = 1 / 255
"""Root mean square of a candidate without its means: patches with less are flat but for the rounding to 8 bits."""

BLOCK = 512
"""Candidates that are compared with the atoms at once."""


def choose_atoms(candidates: NDArray[np.uint8], *, side: int, atoms: int, similarity: float) -> Tensor:
    """The first of the candidates that differ, normalised.

    Args:
        candidates: (N, 3 side side) uint8, each (3, side, side) in C order.
        side: of a patch.
        atoms: how many are chosen.
        similarity: largest |cosine| of two atoms, above 0 and at most 1.

    Returns:
        (atoms, 3, side, side) float32.

    Raises:
        TrainingError: fewer differ.
    """
    chosen: Tensor = torch.zeros(atoms, 3 * side * side)
    count = 0
    for start in range(0, len(candidates), BLOCK):
        block = torch.from_numpy(candidates[start : start + BLOCK]).view(-1, 3, side, side)
        fresh = normalised(block).flatten(1)
        fresh = fresh[largest_cosine(fresh, chosen[:count]) <= similarity]
        for index in _apart(fresh, similarity)[: atoms - count]:
            chosen[count] = fresh[index]
            count += 1
        if count == atoms:
            return chosen.view(atoms, 3, side, side)
    raise TrainingError(
        "too few patches differ for the dictionary: ask for fewer atoms, or a larger similarity",
        item=f"{len(candidates)} candidates", expected=f"{atoms} atoms", got=count,
    )  # fmt: skip


def normalised(patches: Tensor) -> Tensor:
    """Those patches (N, 3, side, side) uint8 that are not flat, float32 without their channels' means, at norm 1."""
    levels = patches.double() / 255
    details = levels - levels.mean((2, 3), keepdim=True)
    contrast = details.square().mean((1, 2, 3)).sqrt()
    kept = contrast >= LEAST_CONTRAST
    norm = contrast[kept] * sqrt(details[0].numel())
    return (details[kept] / norm[:, None, None, None]).float()


def largest_cosine(patches: Tensor, atoms: Tensor) -> Tensor:
    """(N,): the largest |cosine| of each patch (N, n) with any atom (K, n); 0 without atoms."""
    return (patches @ atoms.T).abs().amax(1) if len(atoms) else patches.new_zeros(len(patches))


def _apart(patches: Tensor, similarity: float) -> list[int]:
    """The patches (N, n) that no earlier one of these is too near to, by their indices."""
    near = ((patches @ patches.T).abs() > similarity).numpy()
    apart: list[int] = []
    for index in range(len(patches)):
        if not near[index, apart].any():
            apart.append(index)
    return apart
