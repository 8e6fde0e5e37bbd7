import numpy as np
import pytest

from stl_ray.errors import TrainingError
from stl_ray.training.defenses.patches import (
    KEYS,
    cut_patches,
    draw_patches,
    key_limit,
    keys_of,
    patches_per_image,
    smallest_keys,
)

OPTIONS = {"side": 4, "seed": 7, "purpose": "a test"}


def image(height: int = 9, width: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def places(pixels: np.ndarray, patches: np.ndarray) -> list[tuple[int, int]]:
    """Where the patches lie in an image of noise."""
    windows = {
        pixels[top : top + 4, left : left + 4].transpose(2, 0, 1).tobytes(): (top, left)
        for top in range(pixels.shape[0] - 3)
        for left in range(pixels.shape[1] - 3)
    }
    return [windows[patch.tobytes()] for patch in patches]


def test_identity_patches_are_windows_of_the_image_and_of_all_of_it():
    pixels = image()
    _, patches = draw_patches(pixels, "train/1", 1500, **OPTIONS)
    found = places(pixels, patches)
    assert set(found) == {(top, left) for top in range(6) for left in range(9)}


def test_invariant_draws_are_of_seed_id_purpose_and_number_alone():
    keys, patches = draw_patches(image(), "train/1", 6, **OPTIONS)
    fewer, same = draw_patches(image(), "train/1", 3, **OPTIONS)
    assert keys[:3].tolist() == fewer.tolist() and np.array_equal(patches[:3], same)
    for changed in ({"seed": 8}, {"purpose": "another"}):
        assert not set(keys) & set(draw_patches(image(), "train/1", 6, **{**OPTIONS, **changed})[0])
    assert not set(keys) & set(draw_patches(image(), "train/2", 6, **OPTIONS)[0])


def test_identity_places_are_as_probable_as_their_saliency():
    pixels, saliency = image(), np.zeros((9, 12))
    saliency[1, 1], saliency[8, 11] = 1, 3  # the first is in 4 patches, the second in 1
    _, patches = draw_patches(pixels, "train/1", 4000, saliency=saliency, **OPTIONS)
    found = places(pixels, patches)
    assert set(found) == {(0, 0), (0, 1), (1, 0), (1, 1), (5, 8)}
    # 4 standard deviations of a share of 3 / 7 among 4,000 draws
    assert abs(found.count((5, 8)) / 4000 - 3 / 7) < 4 * (3 / 7 * 4 / 7 / 4000) ** 0.5


def test_identity_without_any_saliency_all_places_are_equal():
    for saliency in (None, np.zeros((9, 12))):
        keys, patches = draw_patches(image(), "train/1", 50, saliency=saliency, **OPTIONS)
        assert np.array_equal(patches, draw_patches(image(), "train/1", 50, **OPTIONS)[1])
    assert (keys >= 0).all()


def test_invariant_kept_is_what_has_the_smallest_keys_in_any_order_of_images():
    drawn = [draw_patches(image(seed=number), f"train/{number}", 5, **OPTIONS) for number in range(40)]
    keys, patches = smallest_keys(drawn, 30)
    assert keys.tolist() == sorted(np.concatenate([some for some, _ in drawn]).tolist())[:30]
    again = smallest_keys(drawn[::-1], 30)
    assert np.array_equal(keys, again[0]) and np.array_equal(patches, again[1])
    at = [(key, patch.tobytes()) for some, them in drawn for key, patch in zip(some, them, strict=True)]
    assert list(zip(keys, map(bytes, patches), strict=True)) == sorted(at)[:30]


def test_identity_fewer_are_kept_where_fewer_were_drawn():
    drawn = draw_patches(image(), "train/1", 5, **OPTIONS)
    assert len(smallest_keys([drawn], 30)[0]) == 5
    assert [patches_per_image(10, images) for images in (1, 3, 10, 11)] == [10, 4, 1, 1]


def test_refuses_to_keep_nothing():
    with pytest.raises(TrainingError, match="no patch"):
        smallest_keys([], 3)


@pytest.mark.parametrize(
    ("patches", "images"), [(1, 5000), (20, 5000), (400, 5000), (4000, 5000), (9000, 5000), (3, 2)]
)
def test_invariant_keys_above_the_limit_are_of_no_consequence(patches, images):
    limit, each = key_limit(patches, images), patches_per_image(patches, images)
    of_all = {"seed": 7, "purpose": "a test"}
    ids = [f"train/{number}" for number in range(images)]
    every = np.concatenate([keys_of(one, each, **of_all) for one in ids])
    below = np.concatenate([keys_of(one, each, limit=limit, **of_all) for one in ids])
    assert np.array_equal(np.sort(every)[:patches], np.sort(below)[:patches])
    # Half of the images set aside, and 5 standard deviations.
    assert len(below) >= min(len(every), 2 * patches)
    assert (limit == KEYS) == (2 * patches + 10 * int(patches**0.5) + 50 >= images * each)
    assert len(below) <= 2 * patches + 20 * patches**0.5 + 100 or limit == KEYS


def test_identity_patches_of_some_keys_are_those_of_all():
    keys, patches = draw_patches(image(), "train/1", 50, **OPTIONS)
    few = keys_of("train/1", 50, seed=7, purpose="a test", limit=int(np.median(keys)))
    assert 0 < len(few) < 50
    assert np.array_equal(cut_patches(image(), few, side=4), patches[np.isin(keys, few)])
