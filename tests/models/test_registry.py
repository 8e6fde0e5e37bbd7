import pytest
import torch

from stl_ray.errors import ConfigError
from stl_ray.models import build_classifier, builders, check_classifier

NAMES = ["cat", "dog", "frog"]

SMALL = [
    "resnet18_small",
    "vgg11_bn_small",
    "small_cnn",
    "cifar_resnet20",
    "cifar_resnet56",
    "resnet18",
    "shufflenet_v2_x0_5",
    "mobilenet_v3_small",
]


@pytest.mark.parametrize("name", SMALL)
def test_identity_logits_are_one_per_class(name, natural_images):
    logits = build_classifier(name, NAMES, seed=0).eval().logits(natural_images[:2])
    assert logits.shape == (2, 3) and logits.isfinite().all()


def test_identity_the_table_holds_what_configs_name():
    assert {
        "small_cnn",
        "cifar_resnet20",
        "cifar_resnet56",
        "vgg16_bn",
        "resnet50",
        "convnext_tiny",
    } <= builders().keys()
    assert not any("maskrcnn" in name or "deeplab" in name for name in builders())


@pytest.mark.parametrize(
    ("name", "parameters"),
    # At ten classes: torchvision's own count, less what the stem and the head give up.
    [("resnet18_small", 11_173_962), ("resnet50_small", 23_520_842), ("vgg16_bn_small", 14_728_266)],
)
def test_identity_small_variants_keep_torchvision_s_layers(name, parameters):
    ours = build_classifier(name, [str(i) for i in range(10)], seed=0).backbone
    assert sum(p.numel() for p in ours.parameters()) == parameters
    theirs = builders()[name.removesuffix("_small")](10).state_dict()
    differ = {
        key for key, tensor in ours.state_dict().items() if key not in theirs or theirs[key].shape != tensor.shape
    }
    assert differ <= {"conv1.weight", "classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(("side", "cells"), [(32, 4), (64, 8)])
def test_identity_the_small_stem_keeps_an_eighth_of_the_side(side, cells):
    network = build_classifier("resnet18_small", NAMES, seed=0).backbone
    seen = []
    network.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    network(torch.rand(2, 3, side, side))
    assert seen == [cells]


@pytest.mark.parametrize(("name", "side"), [("googlenet", 64), ("inception_v3", 96)])
def test_identity_no_auxiliary_head_in_training_mode(name, side):
    logits = build_classifier(name, NAMES, seed=0)(torch.rand(2, 3, side, side))
    assert isinstance(logits, torch.Tensor) and logits.shape == (2, 3)


def test_invariant_weights_come_from_seed_and_name_alone():
    state = torch.random.get_rng_state()
    first = build_classifier("small_cnn", NAMES, seed=5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(1)
    again = build_classifier("small_cnn", NAMES, seed=5).state_dict()
    other = build_classifier("small_cnn", NAMES, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["backbone.0.weight"], other["backbone.0.weight"])


@pytest.mark.parametrize(("name", "nearest"), [("resnet_50", "resnet50"), ("smal_cnn", "small_cnn")])
def test_refuses_an_unknown_name_with_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=nearest):
        check_classifier(name)
    with pytest.raises(ConfigError, match=nearest):
        build_classifier(name, NAMES, seed=0)


def test_refuses_no_class():
    with pytest.raises(ConfigError, match="at least one"):
        build_classifier("small_cnn", [], seed=0)
