"""The nearest patches of a patch, exactly.

The squared distance of q and r, less |q|^2, is |r|^2 - 2 q.r. Levels are whole numbers up to 255, so that every product
and every partial sum is one below 2^24, which float32 has exactly: scores by matrix products are exact, whatever the
batch, the blocks and the device, and ties go to the lower index.
"""

import torch
from torch import Tensor

from stl_ray.defenses.quilting_seams import SIDE
from stl_ray.errors import TensorError

VALUES = 3 * SIDE * SIDE
"""Of a patch."""

FARTHEST = 2**23
"""More than any score, which are VALUES * 255^2 at most."""

GROUP = 64
"""Patches of a group: of most groups only the least score is looked at."""

QUERIES, BLOCK_CPU, BLOCK_GPU = 512, 2**12, 2**17
"""Queries and patches whose scores are computed together: 8 MB, which a cache holds, or 256 MB."""


@torch.no_grad()
def nearest_patches(patches: Tensor, queries: Tensor, k: int) -> Tensor:
    """The `k` nearest patches of every query by Euclidean distance, from the nearest on, ties by the lower index.

    Args:
        patches: (N, 75) uint8.
        queries: (Q, 75) float32 levels, whole numbers from 0 to 255, on the patches' device.
        k: 1 to N.

    Returns:
        (Q, k) int64 indices.

    Raises:
        TensorError: k is out of range, or the queries have another shape.
    """
    if not 1 <= k <= len(patches):
        expected = f"1 to {len(patches)}"
        raise TensorError("a library has too few patches for so many neighbours", expected=expected, got=k)
    if queries.dim() != 2 or queries.shape[1] != VALUES:
        raise TensorError("not patches", expected=f"(Q, {VALUES})", got=tuple(queries.shape))
    parts = torch.split(queries, QUERIES)
    best = [queries.new_empty((len(part), 0), dtype=torch.int64) for part in parts]
    size = BLOCK_CPU if queries.device.type == "cpu" else BLOCK_GPU
    for start in range(0, len(patches), size):
        block = patches[start : start + size].float()
        norms = block.square().sum(1)
        with torch.autocast(queries.device.type, enabled=False):
            for number, part in enumerate(parts):
                keys = _least(torch.addmm(norms, part, block.T, alpha=-2), k, start)
                best[number] = _smallest(torch.cat([best[number], keys], 1), k)
    return torch.cat(best) & (2**32 - 1)


def _least(scores: Tensor, k: int, start: int) -> Tensor:
    """Keys (Q, at most k) of the least of the scores (Q, n) of patches `start`, `start` + 1, ...

    They are in the k groups whose least keys are the least: each of those has a smaller key than any other group.
    """
    padded = torch.nn.functional.pad(scores, (0, -scores.shape[1] % GROUP), value=FARTHEST)
    groups = padded.view(len(scores), padded.shape[1] // GROUP, GROUP)
    least = _smallest(_keys(groups.amin(2), torch.arange(groups.shape[1], device=scores.device)), k) & (2**32 - 1)
    chosen = groups.gather(1, least[..., None].expand(-1, -1, GROUP))
    indices = least[..., None] * GROUP + torch.arange(GROUP, device=scores.device)
    return _smallest(_keys(chosen, indices + start).flatten(1), k)


def _keys(scores: Tensor, indices: Tensor) -> Tensor:
    """Whole numbers in the order of scores, then of indices, which are their lower 32 bits."""
    return (scores.long() << 32) + indices


def _smallest(keys: Tensor, k: int) -> Tensor:
    return keys.topk(min(k, keys.shape[1]), largest=False, sorted=True).values
