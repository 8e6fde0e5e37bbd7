import sys

import pytest
import torch
import torch.nn.functional as F

from stl_ray.errors import ConfigError
from stl_ray.models import build_classifier, check_classifier
from stl_ray.models import torchvision_models as torchvision

NAMES = ["cat", "dog", "frog"]

SMALL = [
    "resnet18_small",
    "vgg11_bn_small",
    "small_cnn",
    "cifar_resnet20",
    "cifar_resnet56",
    "thermometer_resnet20",
    "torchvision:resnet18",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:mobilenet_v3_small",
    "timm:test_resnet",
    "timm:test_vit.r160_in1k",
]


@pytest.mark.parametrize("name", SMALL)
def test_identity_logits_are_one_per_class(name, natural_images):
    if name.startswith("timm"):
        pytest.importorskip("timm", reason="an optional extra")
    images = F.interpolate(natural_images[:2], (160, 160)) if "vit" in name else natural_images[:2]
    logits = build_classifier(name, NAMES, seed=0).eval().logits(images)
    assert logits.shape == (2, 3) and logits.isfinite().all()


def test_identity_torchvision_s_names_are_those_of_classifiers():
    assert {"vgg16_bn", "resnet50", "convnext_tiny"} <= set(torchvision.names())
    assert not any("maskrcnn" in name or "deeplab" in name for name in torchvision.names())


@pytest.mark.parametrize(
    ("architecture", "mean", "std"),
    [
        ("small_cnn", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("torchvision:resnet18", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("timm:test_resnet", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("timm:resnet18.tv_in1k", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("torch.nn:Flatten", (0, 0, 0), (1, 1, 1)),
    ],
)
def test_identity_each_architecture_has_its_own_normalisation(architecture, mean, std):
    if architecture.startswith("timm"):
        pytest.importorskip("timm", reason="an optional extra")
    classifier = build_classifier(architecture, NAMES, seed=0)
    torch.testing.assert_close(classifier.mean.flatten(), torch.tensor(mean, dtype=torch.float32))
    torch.testing.assert_close(classifier.std.flatten(), torch.tensor(std, dtype=torch.float32))
    given = build_classifier(architecture, NAMES, seed=0, mean=(0.1,) * 3, std=(0.2,) * 3)
    assert given.mean.flatten().tolist() == pytest.approx([0.1] * 3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    # At ten classes: torchvision's own count, less what the stem and the head give up.
    [("resnet18_small", 11_173_962), ("resnet50_small", 23_520_842), ("vgg16_bn_small", 14_728_266)],
)
def test_identity_small_variants_keep_torchvision_s_layers(name, parameters):
    ours = build_classifier(name, [str(i) for i in range(10)], seed=0).backbone
    assert sum(p.numel() for p in ours.parameters()) == parameters
    theirs = torchvision.builder(name.removesuffix("_small"))(10).state_dict()
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


@pytest.mark.parametrize(("name", "side"), [("torchvision:googlenet", 64), ("torchvision:inception_v3", 96)])
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


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet_50", r"'torchvision:resnet50'\? \(one of .*\), torchvision:NAME, timm:NAME or module:function"),
        ("resnet50", r"'torchvision:resnet50'\?"),
        ("smal_cnn", r"'small_cnn'\? \(one of cifar_resnet20, "),
        ("nothing like it", r"expected \(one of cifar_resnet20, .*\), torchvision:NAME, timm:NAME or module:function"),
        ("torchvision:resnet_50", r"torchvision:resnet_50: .* 'resnet50'\?"),
        ("torchvision:", "one of alexnet"),
        ("timm:resnet_18", r"timm:resnet_18: unknown classifier of timm; expected 'timm:resnet18'\?"),
        ("timm:resnet18.tv_in2k", r"weights' tag of timm; expected 'timm:resnet18.tv_in1k'\?"),
        ("timm:resnet18.", r"weights' tag of timm"),
        ("timm:hf-hub:user/model", "unknown classifier of timm"),
    ],
)
def test_refuses_an_unknown_name_with_the_nearest(name, nearest):
    if name.startswith("timm"):
        pytest.importorskip("timm", reason="an optional extra")
    with pytest.raises(ConfigError, match=nearest):
        check_classifier(name)
    with pytest.raises(ConfigError, match=nearest):
        build_classifier(name, NAMES, seed=0)


def test_refuses_no_class():
    with pytest.raises(ConfigError, match="at least one"):
        build_classifier("small_cnn", [], seed=0)


def test_refuses_timm_by_the_extra_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"timm:resnet18: timm cannot be imported .* pip install 'stl-ray\[timm\]'"):
        check_classifier("timm:resnet18")
