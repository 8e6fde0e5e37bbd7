import numpy as np
import pytest
import torch

from stl_ray.defenses.quilting_index import SMALLEST, build_index
from stl_ray.defenses.quilting_library import LibraryRecipe, PatchLibrary
from stl_ray.defenses.quilting_search import VALUES, nearest_patches
from stl_ray.errors import ArtifactError, ConfigError, TensorError, TrainingError


def drawn(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, VALUES), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.fixture(scope="module")
def indexed() -> PatchLibrary:
    pytest.importorskip("faiss", reason="pip install faiss-cpu")
    patches = drawn(600)
    return PatchLibrary(patches, build_index(patches.numpy()))


def test_roundtrip_a_stored_library(tmp_path):
    library = PatchLibrary(drawn(7))
    library.save(str(tmp_path), {"made": "here"})
    stored = LibraryRecipe(patches=7, search="exact").load(str(tmp_path))
    assert torch.equal(stored.patches, library.patches) and stored.index is None
    assert stored.digest == library.digest != PatchLibrary(drawn(8)).digest
    with pytest.raises(ArtifactError, match="search: faiss"):
        LibraryRecipe(patches=7, search="faiss").load(str(tmp_path))


def test_roundtrip_a_stored_index(tmp_path, indexed):
    indexed.save(str(tmp_path), {})
    stored, plain = (LibraryRecipe(patches=600, search=search).load(str(tmp_path)) for search in ("faiss", "exact"))
    queries = drawn(50, seed=1).float()
    assert stored.digest == indexed.digest != plain.digest == PatchLibrary(indexed.patches).digest
    assert torch.equal(stored.nearest(queries, 3), indexed.nearest(queries, 3))
    assert torch.equal(plain.nearest(queries, 3), nearest_patches(indexed.patches, queries, 3))


def test_invariant_an_index_is_the_same_every_time(indexed):
    np.testing.assert_array_equal(build_index(indexed.patches.numpy()), indexed.index)


def test_identity_an_index_finds_a_patch_itself_and_some_of_the_nearest(indexed):
    queries = indexed.patches.float()
    found, exact = indexed.nearest(queries, 2), nearest_patches(indexed.patches, queries, 2)
    assert float((found[:, 0] == torch.arange(600)).float().mean()) > 0.95
    assert 0.05 < float((found[:, 1] == exact[:, 1]).float().mean()) < 1


def test_invariant_an_index_searches_alone_as_in_a_batch(indexed):
    queries = drawn(300, seed=2).float()
    whole = indexed.nearest(queries, 3)
    for row in (0, 7, 255, 299):
        assert torch.equal(indexed.nearest(queries[row : row + 1], 3)[0], whole[row])


def test_certificate_what_an_index_does_not_find_is_searched_exactly(indexed):
    """5 of 200 lists hold some 15 of 600 patches."""
    queries = drawn(20, seed=3).float()
    assert torch.equal(indexed.nearest(queries, 400), nearest_patches(indexed.patches, queries, 400))


@pytest.mark.parametrize("patches", [torch.zeros(3, 74, dtype=torch.uint8), torch.zeros(3, VALUES), drawn(0)])
def test_refuses_what_is_no_library(patches):
    with pytest.raises(TensorError, match=r"\(N, 75\)"):
        PatchLibrary(patches)


def test_refuses_an_index_of_too_few_patches():
    with pytest.raises(TrainingError, match=f">= {SMALLEST}"):
        build_index(drawn(SMALLEST - 1).numpy())


def test_refuses_an_index_without_faiss(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"stl-ray\[quilting\]"):
        build_index(drawn(SMALLEST).numpy())
