"""Uniqueness of ids, by 128-bit hashes: 16 bytes an id, 20 MB for the 1.28 million of ImageNet."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
"""(N, 2) uint64, one row an id."""


def keys_of(ids: Sequence[str]) -> Keys:
    """The hashes of some ids."""
    digests = b"".join(hashlib.blake2b(identifier.encode(), digest_size=16).digest() for identifier in ids)
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def doubled(keys: Iterable[Keys]) -> set[bytes]:
    """The hashes that come more than once in all arrays together, which are taken one by one."""
    digests = bytearray()
    for array in keys:
        digests += array.tobytes()
    every = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    hashes, counts = np.unique(every[alike(every[:, 0])], axis=0, return_counts=True)
    return {key.tobytes() for key in hashes[counts > 1]}


def alike(words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mask of the words that come more than once; first words of different hashes hardly ever coincide."""
    ordered = np.sort(words)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    return np.isin(words, twice)


def first_of(ids: Sequence[str], wanted: set[bytes]) -> str | None:
    """The first id whose hash is wanted."""
    return next((identifier for identifier in ids if keys_of([identifier]).tobytes() in wanted), None)
