import io

import numpy as np
import pytest
import torch
from PIL import Image

from stl_ray.defenses import make_defense
from stl_ray.images import quantize, to_uint8
from stl_ray.metrics import psnr


def jpeg(**options):
    return make_defense("jpeg", options, {})


@pytest.mark.parametrize("quality", [75, 30])
def test_agrees_with_pillow(natural_images, quality):
    images = quantize(natural_images[:4])
    compressed = jpeg(quality=quality).purify(images, seeds=range(len(images))).images
    for before, after in zip(to_uint8(images), to_uint8(compressed), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(before).save(buffer, format="JPEG", quality=quality)
        np.testing.assert_array_equal(after, np.array(Image.open(buffer)))


def test_invariant_lower_quality_loses_more(natural_images):
    images = quantize(natural_images)
    ratios = [
        psnr(jpeg(quality=quality).purify(images, seeds=range(len(images))).images, images) for quality in (95, 75, 20)
    ]
    assert bool((ratios[0] > ratios[1]).all())
    assert bool((ratios[1] > ratios[2]).all())
    assert 25 < float(ratios[1].mean()) < 40


def test_identity_names_quality_and_library():
    identity = jpeg().identity()
    assert identity["quality"] == 75
    assert identity["libjpeg"]
    assert jpeg(quality=76).identity() != identity


def test_identity_undefended_changes_nothing(natural_images):
    none = make_defense("none", {}, {})
    assert torch.equal(none.purify(natural_images, seeds=range(24)).images, natural_images)
