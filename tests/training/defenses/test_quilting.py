import numpy as np
import pytest

from stl_ray.errors import TrainingError
from stl_ray.training.defenses.quilting import assemble_library, draw_patches, patches_per_image


def image(height: int, width: int) -> np.ndarray:
    """Pixels that say where they are: row, column, channel."""
    grid = np.stack([*np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), np.full((height, width), 9)], -1)
    return grid.astype(np.uint8)


def test_identity_patches_are_windows_of_the_image():
    keys, patches = draw_patches(image(12, 30), "a", 4000, seed=0)
    assert keys.dtype == np.int64 and int(keys.min()) >= 0 and len(set(keys.tolist())) == 4000
    windows = patches.reshape(-1, 3, 5, 5).astype(int)
    corners = windows[:, :2, 0, 0]
    np.testing.assert_array_equal(windows[:, 0], corners[:, :1, None] + np.arange(5)[:, None] + np.zeros(5, int))
    np.testing.assert_array_equal(windows[:, 1], corners[:, 1:, None] + np.arange(5) + np.zeros((5, 1), int))
    assert (windows[:, 2] == 9).all()
    counts = np.zeros((8, 26), int)
    np.add.at(counts, tuple(corners.T), 1)
    assert counts.min() > 0 and counts.max() < 60  # 19 each on average: every place, the last ones too, alike


def test_identity_one_place_in_an_image_of_one_patch():
    patches = draw_patches(image(5, 5), "a", 3, seed=0)[1]
    np.testing.assert_array_equal(patches, np.tile(image(5, 5).transpose(2, 0, 1).reshape(-1), (3, 1)))


def test_invariant_more_patches_begin_with_the_same_ones_and_other_ids_and_seeds_are_others():
    keys, patches = draw_patches(image(9, 9), "a", 8, seed=1)
    fewer = draw_patches(image(9, 9), "a", 3, seed=1)
    np.testing.assert_array_equal(fewer[0], keys[:3])
    np.testing.assert_array_equal(fewer[1], patches[:3])
    for other in (draw_patches(image(9, 9), "b", 8, seed=1), draw_patches(image(9, 9), "a", 8, seed=2)):
        assert not set(other[0].tolist()) & set(keys.tolist())


@pytest.mark.parametrize("patches", [5, 6, 13, 1000])
def test_invariant_a_library_does_not_depend_on_how_images_are_dealt(patches):
    images = {f"i{n}": np.random.default_rng(n).integers(0, 256, (9, 9, 3), np.uint8) for n in range(6)}
    count = patches_per_image(min(patches, 18), len(images))
    drawn = [draw_patches(pixels, name, count, seed=3) for name, pixels in images.items()]
    whole = assemble_library(drawn, patches)
    assert len(whole) == min(patches, 6 * count)
    np.testing.assert_array_equal(assemble_library(reversed(drawn), patches), whole)
    joined = tuple(np.concatenate(parts) for parts in zip(*drawn, strict=True))
    np.testing.assert_array_equal(assemble_library([joined], patches), whole)
    kept = np.argsort(joined[0])[:patches]
    np.testing.assert_array_equal(whole, joined[1][kept])


def test_identity_patches_per_image():
    assert [patches_per_image(1_000_000, images) for images in (50_000, 1_000_000, 1_281_167, 30_000)] == [20, 1, 1, 34]


def test_refuses_nothing():
    with pytest.raises(TrainingError, match="no patch"):
        assemble_library([], 10)
