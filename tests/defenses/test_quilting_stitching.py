import pytest
import torch

from stl_ray.defenses.quilting_seams import SIDE, cut, reference
from stl_ray.defenses.quilting_stitching import STRIDE, cut_out, stitch


def stitched_in_raster_order(patches: torch.Tensor, rows: int, columns: int, seam, height: int, width: int):
    """One patch after the other."""
    canvas = torch.zeros(3, height, width)
    for number, patch in enumerate(patches):
        y, x = (STRIDE * place for place in divmod(number, columns))
        window = canvas[:, y : y + SIDE, x : x + SIDE]
        taken = seam(window.reshape(3, 25), patch, y > 0, x > 0)
        window.copy_(torch.where(taken, patch, window.reshape(3, 25)).view(3, SIDE, SIDE))
    return canvas


@pytest.mark.parametrize("seam", [cut, reference])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (4, 1), (3, 6), (6, 3)])
@pytest.mark.parametrize("levels", [2, 256])
def test_agrees_with_raster_order(seam, rows, columns, levels):
    patches = torch.randint(0, levels, (2, rows * columns, 1, 25), generator=torch.Generator().manual_seed(rows))
    patches = patches.float().expand(-1, -1, 3, -1)
    height, width = STRIDE * rows + 4, STRIDE * columns + 3
    whole = stitch(patches, rows, columns, seam, height=height, width=width)
    for canvas, own in zip(whole, patches, strict=True):
        assert torch.equal(canvas, stitched_in_raster_order(own, rows, columns, seam, height, width))
    assert not whole[:, :, STRIDE * rows + 2 :].any() and not whole[:, :, :, STRIDE * columns + 2 :].any()


def test_invariant_the_seams_differ_on_the_same_patches():
    patches = torch.randint(0, 256, (1, 12, 3, 25), generator=torch.Generator().manual_seed(0)).float()
    assert not torch.equal(*(stitch(patches, 3, 4, seam, height=11, width=14) for seam in (cut, reference)))


@pytest.mark.parametrize("seam", [cut, reference])
def test_roundtrip_an_images_own_patches_give_the_image(seam):
    image = torch.randint(0, 256, (2, 3, 14, 20), generator=torch.Generator().manual_seed(1)).float()
    patches = cut_out(image, 4, 6)
    assert patches.shape == (2, 24, 3, 25)
    assert torch.equal(patches[1, 7], image[1, :, 3:8, 3:8].reshape(3, 25))
    assert torch.equal(stitch(patches, 4, 6, seam, height=14, width=20), image)
