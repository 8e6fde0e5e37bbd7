"""Ids that came before: a dataset has every id once, so the rows after the first are set aside."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from stl_ray.store.unique import Keys, keys_of

Hashes = tuple[NDArray[np.int64], Keys]
"""The positions that have an id, and the ids' hashes."""


def hashes_of(ids: Sequence[str | None], start: int = 0) -> Hashes:
    """The hashes of some ids, the first of which has the position `start`; a row without one (None) is left out."""
    named = [(place, name) for place, name in enumerate(ids, start) if name is not None]
    return np.array([place for place, _ in named], np.int64), keys_of([name for _, name in named])


def repeated(groups: Iterable[Hashes]) -> list[NDArray[np.int64]]:
    """For every group the positions of the ids that came before, in it or in an earlier group."""
    every = list(groups)
    keys = np.concatenate([np.empty((0, 2), np.uint64), *(keys for _, keys in every)])
    order = np.lexsort(keys.T)  # of equal ids the earlier comes first
    same = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
    again = np.zeros(len(keys), bool)
    again[order[1:][same]] = True
    parts = np.split(again, np.cumsum([len(keys) for _, keys in every])[:-1])
    return [places[part] for (places, _), part in zip(every, parts, strict=True)]
