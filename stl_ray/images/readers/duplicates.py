"""Repeated ids: a dataset has every id once, so the rows after an id's first are set aside."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from stl_ray.store.unique import Keys, alike, keys_of

Hashes = tuple[NDArray[np.int64], Keys]
"""The positions that have an id, and the ids' hashes."""


def hashes_of(ids: Sequence[str | None], start: int = 0) -> Hashes:
    """The hashes of ids at positions from `start` on; a row without one (None) is left out."""
    named = [(position, name) for position, name in enumerate(ids, start) if name is not None]
    return np.array([position for position, _ in named], np.int64), keys_of([name for _, name in named])


def repeated(groups: Iterable[Hashes]) -> list[NDArray[np.int64]]:
    """The positions, in every group, of ids that repeat one before them in it or in an earlier group."""
    every = list(groups)
    suspects = alike(np.concatenate([np.empty(0, np.uint64), *(keys[:, 0] for _, keys in every)]))
    seen: set[bytes] = set()
    again = []
    start = 0
    for positions, keys in every:
        rows = []
        for row in np.flatnonzero(suspects[start : start + len(keys)]).tolist():
            key = keys[row].tobytes()
            if key in seen:
                rows.append(row)
            seen.add(key)
        again.append(positions[rows])
        start += len(keys)
    return again
