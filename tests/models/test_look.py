"""Models as people bring them: what a look says of each."""

import pytest
import torch
from torch import nn

from stl_ray.errors import GradientError, TensorError
from stl_ray.models import Classifier, build_classifier, look

CLASSES = list("abc")


@pytest.fixture(scope="module")
def images(natural_images) -> torch.Tensor:
    return natural_images[::6, :, :16, :16].contiguous()


class Wrapped(nn.Module):
    def __init__(self, answer):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.answer = nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), answer

    def forward(self, images):
        return self.answer(self.net, images)


def victim(answer) -> Classifier:
    network = answer if isinstance(answer, nn.Module) else Wrapped(answer)
    return Classifier(network, architecture="net", class_names=CLASSES).eval()


def autocast(net, images):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return net(images)


def without_graph(net, images):
    with torch.no_grad():
        return net(images)


def in_place(net, images):
    return net(images.mul_(2))


SOUND = {
    "plain": lambda net, images: net(images),
    "float64": lambda net, images: net(images).double(),
    "in place": in_place,  # of what the normalisation made
    "object": lambda net, images: {"logits": net(images)},
}

REMARKS = {
    "autocast": (autocast, "bfloat16's precision"),
    "float16": (lambda net, images: net(images).half(), "float16's precision"),
    "some zero": (
        lambda net, images: net(images * (torch.arange(len(images)) > 0)[:, None, None, None]),
        "zero for 1 of 4",
    ),
}

REFUSED = {
    "softmax": (lambda net, images: net(images).softmax(1), TensorError, "are probabilities"),
    "tuple": (lambda net, images: (net(images), None), TensorError, "got tuple"),
    "classes": (lambda net, images: net(images)[:, :2], TensorError, r"got \(8, 2\)"),
    "one row": (lambda net, images: net(images).mean(0, keepdim=True), TensorError, r"got \(1, 3\)"),
    "integers": (lambda net, images: net(images).int(), TensorError, "int32"),
    "not finite": (lambda net, images: net(images) / 0, TensorError, "logits are not finite"),
    "fails": (
        lambda net, images: net(images[:, :, :2]),
        TensorError,
        r"fails on \(8, 3, 16, 16\) images \(RuntimeError",
    ),
    "batch norm": (
        lambda net, images: net((images - images.mean()) / images.std()),
        TensorError,
        "images of the batch",
    ),
    "dropout": (lambda net, images: net(nn.functional.dropout(images)), TensorError, "from call to call"),
    "no_grad": (without_graph, GradientError, "cut off"),
    "detached": (lambda net, images: net(images.detach()), GradientError, "cut off"),
    "rounds": (lambda net, images: net(images.round()), GradientError, "zero for every image"),
    "constant": (lambda net, images: net(images) * 0, GradientError, "zero for every image"),
    "root": (lambda net, images: net(images - images) + net((images * 0).sqrt()), GradientError, "not finite"),
}


@pytest.mark.parametrize("name", SOUND)
def test_certificate_what_works_gets_no_remark(name, images):
    assert look(victim(SOUND[name]), images, 3, item="net") == []


@pytest.mark.parametrize("name", REMARKS)
def test_identity_what_works_and_may_not_be_meant_gets_a_remark(name, images):
    answer, expected = REMARKS[name]
    (remark,) = look(victim(answer), images, 3, item="net")
    assert expected in remark


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_gives_wrong_figures(name, images):
    answer, kind, expected = REFUSED[name]
    with pytest.raises(kind, match=f"net: .*{expected}"):
        look(victim(answer), images, 3, item="net")


@pytest.mark.parametrize("name", ["softmax", "no_grad", "detached", "rounds", "constant", "root"])
def test_identity_without_need_of_a_gradient_its_want_is_a_remark(name, images):
    answer, _, expected = REFUSED[name]
    (remark,) = look(victim(answer), images, 3, item="net", gradient=False)
    assert expected in remark


def test_refuses_batch_statistics_of_a_real_layer(images):
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.Linear(784, 3)]
    with pytest.raises(TensorError, match="change with the other images of the batch"):
        look(victim(nn.Sequential(*layers)), images, 3, item="net")


def test_refuses_a_victim_that_changes_its_images(images):
    class Greedy:
        def logits(self, batch):
            return batch.clamp_(0.4, 0.6).mean((2, 3))

    with pytest.raises(TensorError, match="changes its images in place"):
        look(Greedy(), images, 3, item="net")


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_certificate_a_usual_network_gets_no_remark(classes, count, images):
    network = build_classifier("small_cnn", CLASSES[:classes], seed=0).eval()
    assert look(network, images[:count], classes, item="net") == []
