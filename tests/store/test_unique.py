import tracemalloc

import numpy as np

from stl_ray.store.unique import doubled, first_of, keys_of


def test_agrees_with_counting():
    ids = [f"image {number}" for number in range(3000)] + [f"image {number}" for number in range(0, 3000, 700)] * 2
    ids = [ids[place] for place in np.random.default_rng(0).permutation(len(ids))]
    found = doubled(keys_of(ids[start : start + 100]) for start in range(0, len(ids), 100))
    expected = {f"image {number}" for number in range(0, 3000, 700)}
    assert found == {keys_of([name]).tobytes() for name in expected}
    assert first_of(ids, found) == next(name for name in ids if name in expected)
    assert doubled([keys_of(["a"]), keys_of([]), keys_of(["b"])]) == doubled([]) == set()


def test_invariant_hashes_that_begin_alike_are_not_the_same():
    keys = np.array([[1, 1], [1, 2], [1, 3], [2, 1], [1, 2]], np.uint64)
    assert doubled([keys[:2], keys[2:]]) == {keys[1].tobytes()}


def test_invariant_memory_is_some_bytes_an_id():
    count = 100_000
    tracemalloc.start()
    try:
        doubled(keys_of([str(number) for number in range(start, start + 1000)]) for start in range(0, count, 1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 48 * count
