import numpy as np
import pytest
import torch

from stl_ray.defenses.quilting_search import BLOCK_CPU, GROUP, VALUES, nearest_patches
from stl_ray.errors import TensorError


def drawn(count: int, levels: int, seed: int) -> torch.Tensor:
    return torch.randint(0, levels, (count, VALUES), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def nearest_in_float64(patches: torch.Tensor, queries: torch.Tensor, k: int) -> np.ndarray:
    references, points = patches.double().numpy(), queries.double().numpy()
    distances = np.stack([np.square(point - references).sum(1) for point in points])
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("count", [10, GROUP, 3 * GROUP + 5, BLOCK_CPU + 70])
@pytest.mark.parametrize("levels", [256, 2])
def test_agrees_with_numpy_in_float64(count, levels, k):
    patches, queries = drawn(count, levels, seed=1), drawn(12, levels, seed=2).float()
    patches[-1], patches[0] = queries[0], 255 * (queries[1] > 0)  # the last one counts; a far one
    found = nearest_patches(patches, queries, k)
    np.testing.assert_array_equal(found.numpy(), nearest_in_float64(patches, queries, k))


@pytest.mark.parametrize("k", [1, 5])
def test_invariant_ties_go_to_the_lower_index(k):
    patches = drawn(2, 256, seed=3).repeat(BLOCK_CPU, 1)  # two patches, again and again, over two blocks
    found = nearest_patches(patches, patches[:2].float(), k)
    assert found.tolist() == [[2 * turn for turn in range(k)], [2 * turn + 1 for turn in range(k)]]


def test_certificate_of_the_largest_levels():
    """255 everywhere makes the largest sums; one level less in one value must still tell."""
    patches = torch.full((500, VALUES), 255, dtype=torch.uint8)
    patches[:321] = 0
    patches[400, 7] = 254
    query = torch.full((1, VALUES), 255.0)
    assert nearest_patches(patches, query, 1).item() == 321
    query[0, 7] = 254
    assert nearest_patches(patches, query, 2).tolist() == [[400, 321]]


def test_invariant_alone_and_in_a_batch():
    patches, queries = drawn(3000, 256, seed=4), drawn(600, 256, seed=5).float()
    whole = nearest_patches(patches, queries, 4)
    for row in (0, 511, 512, 599):
        assert torch.equal(nearest_patches(patches, queries[row : row + 1], 4)[0], whole[row])
    with torch.autocast("cpu"):
        assert torch.equal(nearest_patches(patches, queries, 4), whole)
    assert nearest_patches(patches, queries[:0], 4).shape == (0, 4)


@pytest.mark.parametrize("k", [0, 4])
def test_refuses_more_neighbours_than_patches(k):
    with pytest.raises(TensorError, match="1 to 3"):
        nearest_patches(drawn(3, 2, 0), torch.zeros(1, VALUES), k)


def test_refuses_queries_of_another_size():
    with pytest.raises(TensorError, match=r"\(Q, 75\)"):
        nearest_patches(drawn(3, 2, 0), torch.zeros(1, 74), 1)
