"""The budget for all images whose mean dissimilarity is given."""

import pytest
import torch

from stl_ray.attacks import Budget, at_mean
from stl_ray.errors import InputError
from stl_ray.metrics import dissimilarity


@pytest.mark.parametrize("space", ["pixel", "standardized"])
def test_invariant_the_radius_does_not_depend_on_batches_and_order(natural_images, space):
    budget = Budget(size=0.05, space=space)
    together = at_mean(budget, [natural_images], "images")
    assert together.kind == "l2" and together.space == space
    assert at_mean(budget, natural_images.flip(0).split(5), "images") == together


def test_certificate_the_mean_dissimilarity_is_the_budget(natural_images):
    images = torch.cat([natural_images, torch.zeros(1, 3, 32, 32)]).double()
    radius = at_mean(Budget(size=0.05), [images], "images").size
    change = torch.zeros_like(images)
    change[:, 0, 0, 0] = radius
    assert float(dissimilarity(images + change, images)[:-1].mean()) == pytest.approx(0.05)


def test_refuses_black_images():
    with pytest.raises(InputError, match="test: every image is black"):
        at_mean(Budget(size=0.05), [torch.zeros(2, 3, 8, 8)], "test")
