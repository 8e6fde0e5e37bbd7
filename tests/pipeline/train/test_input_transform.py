import pytest
import torch

from stl_ray.defenses import make_defense
from stl_ray.images import quantize, to_uint8
from stl_ray.pipeline.train.job import input_transform_of
from stl_ray.pipeline.train.plan import plan as trainings_of
from stl_ray.store import Layout


@pytest.mark.parametrize(("asked", "mode"), [("exact", "stand_in"), ("bpda", "bpda")])
def test_identity_a_defense_is_trained_through_by_its_strongest_gradient_or_the_identity_s(
    experiment_of, finished_run, image_tables, natural_images, asked, mode
):
    images = quantize(natural_images[:4])
    retrain = {"projection": "on_the_fly"}
    own = experiment_of(
        defenses=[{"name": "jpeg", "defense": "jpeg"}],
        classifiers=[{"name": "vanilla", "architecture": "small_cnn", "recipe": {}, "retrain": retrain}],
        train={"adversarial": {"linf": 8, "gradient": asked}},
    )
    finished_run(own, Layout(own.root).ingested("train"), *image_tables(list(to_uint8(images)), 4))
    (training,) = [one for one in trainings_of(own) if one.retrained_for == "jpeg"]
    leaf, v = images.clone().requires_grad_(), torch.ones_like(images)
    (product,) = torch.autograd.grad(input_transform_of(own, training, "cpu")(leaf, range(4)), leaf, v)
    assert torch.equal(product, make_defense("jpeg", {}, {}).linearised(mode)(images, range(4))[1](v))
