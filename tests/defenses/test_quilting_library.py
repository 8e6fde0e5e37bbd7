import numpy as np
import pytest
import torch

from stl_ray.defenses.quilting_library import BLOCK, GROUP, VALUES, PatchLibrary
from stl_ray.errors import TensorError


def drawn(count: int, levels: int, seed: int) -> torch.Tensor:
    return torch.randint(0, levels, (count, VALUES), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def library(patches: torch.Tensor) -> PatchLibrary:
    return PatchLibrary(patches, digest="")


def nearest_in_float64(patches: torch.Tensor, queries: torch.Tensor, k: int) -> np.ndarray:
    references, points = patches.double().numpy(), queries.double().numpy()
    distances = np.stack([np.square(point - references).sum(1) for point in points])
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("count", [10, GROUP, 3 * GROUP + 5, BLOCK + 70])
@pytest.mark.parametrize("levels", [256, 2])
def test_agrees_with_numpy_in_float64(count, levels, k):
    patches, queries = drawn(count, levels, seed=1), drawn(12, levels, seed=2).float()
    patches[-1], patches[0] = queries[0], 255 * (queries[1] > 0)  # the last one counts; a far one
    found = library(patches).nearest(queries, k)
    np.testing.assert_array_equal(found.numpy(), nearest_in_float64(patches, queries, k))


@pytest.mark.parametrize("k", [1, 5])
def test_invariant_ties_go_to_the_lower_index(k):
    patches = drawn(2, 256, seed=3).repeat(BLOCK, 1)  # two patches, again and again, over two blocks
    found = library(patches).nearest(patches[:2].float(), k)
    assert found.tolist() == [[2 * turn for turn in range(k)], [2 * turn + 1 for turn in range(k)]]


def test_certificate_of_the_largest_levels():
    """255 everywhere makes the largest sums; one level less in one value must still tell."""
    patches = torch.full((500, VALUES), 255, dtype=torch.uint8)
    patches[:321] = 0
    patches[400, 7] = 254
    query = torch.full((1, VALUES), 255.0)
    assert library(patches).nearest(query, 1).item() == 321
    query[0, 7] = 254
    assert library(patches).nearest(query, 2).tolist() == [[400, 321]]


def test_invariant_alone_and_in_a_batch():
    searched, queries = library(drawn(3000, 256, seed=4)), drawn(600, 256, seed=5).float()
    whole = searched.nearest(queries, 4)
    for row in (0, 511, 512, 599):
        assert torch.equal(searched.nearest(queries[row : row + 1], 4)[0], whole[row])
    with torch.autocast("cpu"):
        assert torch.equal(searched.nearest(queries, 4), whole)
    assert searched.nearest(queries[:0], 4).shape == (0, 4)


@pytest.mark.parametrize("patches", [torch.zeros(3, 74, dtype=torch.uint8), torch.zeros(3, VALUES), drawn(0, 2, 0)])
def test_refuses_what_is_no_library(patches):
    with pytest.raises(TensorError, match=r"\(N, 75\)"):
        library(patches)


@pytest.mark.parametrize("k", [0, 4])
def test_refuses_more_neighbours_than_patches(k):
    with pytest.raises(TensorError, match="1 to 3"):
        library(drawn(3, 2, 0)).nearest(torch.zeros(1, VALUES), k)


def test_refuses_queries_of_another_size():
    with pytest.raises(TensorError, match=r"\(Q, 75\)"):
        library(drawn(3, 2, 0)).nearest(torch.zeros(1, 74), 1)
