"""Images as callers have them, and what is stored of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from stl_ray.errors import TensorError
from stl_ray.images import from_uint8
from stl_ray.notebook.inputs import stored_images

LEVELS = np.random.default_rng(0).integers(0, 256, (4, 10, 12, 3), dtype=np.uint8)
CHANNELS_FIRST = torch.from_numpy(LEVELS).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "images",
    [
        LEVELS,
        LEVELS.transpose(0, 3, 1, 2),
        LEVELS / 255,
        CHANNELS_FIRST,
        from_uint8(CHANNELS_FIRST),
        from_uint8(CHANNELS_FIRST).double(),
        CHANNELS_FIRST * (1 / 255),  # off the grid by rounding alone
        list(CHANNELS_FIRST),
        [Image.fromarray(image) for image in LEVELS],
        (image for image in LEVELS),
    ],
)
def test_identity_the_same_pixels_whatever_they_come_in(images):
    stored = stored_images(images, [0, 1, 2, 3])
    assert (np.stack(stored.pixels) == LEVELS).all() and stored.pixels[0].dtype == np.uint8
    assert stored.ids == ["0", "1", "2", "3"] and stored.labels.dtype == np.int64
    assert stored.remarks == ()


def test_identity_several_sizes_and_what_is_off_the_grid():
    off = np.full((3, 9, 9), 0.5, np.float32)
    stored = stored_images([LEVELS[0], off], torch.tensor([1, 0]), ["a", "b"])
    assert [image.shape for image in stored.pixels] == [(10, 12, 3), (9, 9, 3)]
    assert (stored.pixels[1] == 128).all()  # 127.5, half to even
    assert stored.remarks == ("1 of 2 images were not on the 8-bit grid; they are rounded to it, as a stored image is",)


@pytest.mark.parametrize(
    ("images", "labels", "ids", "said"),
    [
        ([], [], None, "images: no images"),
        (LEVELS[0], [0], None, r"images: not a batch of images.*got \(10, 12, 3\)"),
        ("photographs", [0], None, "images: not images.*got str"),
        (LEVELS[..., :1], [0] * 4, None, r"0: not an RGB image.*got \(10, 12, 1\)"),
        (LEVELS.astype(np.int64), [0] * 4, None, "0: pixels of another type.*got int64"),
        (LEVELS.astype(np.float32), [0] * 4, None, "0: pixels out of range.*got 0 to 255"),
        ([LEVELS[0], np.full((3, 9, 9), np.nan)], [0] * 2, None, "1: pixels out of range.*got nan to nan"),
        (LEVELS, [0, 1], None, "labels do not fit.*4 whole numbers"),
        (LEVELS, np.zeros(4), None, "labels do not fit.*float64"),
        (LEVELS, np.eye(4, dtype=int), None, "labels do not fit"),
        (LEVELS, [0] * 4, ["a", "b", "b", "c"], "ids do not fit.*of which 3 differ"),
        (LEVELS, [0] * 4, ["a"], "ids do not fit"),
        (LEVELS, [0] * 4, [0, 1, 2, 3], "ids do not fit"),
        ([np.zeros((0, 5, 3), np.uint8)], [0], None, r"0: not an RGB image.*got \(0, 5, 3\)"),
    ],
)
def test_refuses_what_is_no_image_and_no_label(images, labels, ids, said):
    with pytest.raises(TensorError, match=said):
        stored_images(images, labels, ids)
