import pytest
import torch

from stl_ray.defenses.patch_grid import PatchGrid
from stl_ray.errors import TensorError

SIZES = [(8, 8, 8, 4), (21, 34, 8, 4), (9, 30, 4, 4), (16, 11, 5, 3), (12, 12, 1, 1)]


def images(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
def test_identity_patches_are_windows_row_by_row_and_reach_every_edge(size):
    grid, batch = PatchGrid(*size), images(*size[:2])
    places = [(top, left) for top in grid.tops for left in grid.lefts]
    for (top, left), patch in zip(places, grid.patches(batch).unbind(1), strict=True):
        assert torch.equal(patch, batch[:, :, top : top + size[2], left : left + size[2]])
    assert float(grid.counts(batch).min()) >= 1
    assert sorted(set(grid.tops)) == grid.tops


@pytest.mark.parametrize("size", SIZES)
def test_identity_adding_is_the_transpose_of_cutting(size):
    grid, batch = PatchGrid(*size), images(*size[:2])
    patches = grid.patches(batch)
    other = torch.rand(patches.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close((patches * other).sum(), (batch * grid.added(other)).sum())


@pytest.mark.parametrize("size", SIZES)
def test_roundtrip_the_mean_of_untouched_patches_is_the_image(size):
    grid, batch = PatchGrid(*size), images(*size[:2])
    torch.testing.assert_close(grid.added(grid.patches(batch)) / grid.counts(batch), batch)


@pytest.mark.parametrize("size", [(7, 30, 8, 4), (30, 7, 8, 4), (30, 30, 8, 9), (30, 30, 8, 0)])
def test_refuses_impossible_grids(size):
    with pytest.raises(TensorError):
        PatchGrid(*size)
