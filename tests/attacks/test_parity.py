"""Strength compared with attack libraries on a CIFAR-10 ResNet-20: same weights, images and budgets."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from benchmarks.attacks.peers import Art, Torchattacks
from benchmarks.common.networks import cifar10_network
from stl_ray.attacks import Budget, fooling_rate, make_attack
from stl_ray.images import to_tensor
from stl_ray.models import predict

FREE = Budget(kind="l2", size=50.0)


@pytest.fixture(scope="module")
def resnet(shared_data):
    return cifar10_network("resnet20", shared_data)


@pytest.fixture(scope="module")
def test_set(shared_data):
    """Function that returns the first images of the test split: images, labels, ids."""

    def make(count: int, skip: int = 0) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        (path,) = (shared_data / "cifar10").glob("test*.parquet")
        table = pq.read_table(path).slice(skip, count)
        encoded = [image["bytes"] for image in table.column("image").to_pylist()]
        images = to_tensor([np.array(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded])
        return images, torch.tensor(table.column("label").to_pylist()), table.column("id").to_pylist()

    return make


def ours(name, victim, images, labels, ids, *, budget=FREE, store="f32", **options):
    return make_attack(name, options)(victim, images, labels, budget=budget, ids=ids, seed=0, store=store)


def robust(victim, images, labels) -> float:
    return float((predict(victim, images) == labels).float().mean())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_agrees_deepfool_with_foolbox(resnet, test_set, norm):
    foolbox = pytest.importorskip("foolbox")
    images, labels, ids = test_set(12)
    right = predict(resnet, images) == labels
    method = {"l2": foolbox.attacks.L2DeepFoolAttack, "linf": foolbox.attacks.LinfDeepFoolAttack}[norm]()
    peer = foolbox.PyTorchModel(resnet, bounds=(0, 1), device="cpu")
    theirs = method.run(peer, images[right], foolbox.criteria.Misclassification(labels[right]))
    change = (theirs - images[right]).flatten(1)
    expected = change.norm(dim=1) if norm == "l2" else change.abs().amax(dim=1)
    budget = FREE if norm == "l2" else Budget(kind="linf", size=1.0)
    result = ours("deepfool", resnet, images, labels, ids, budget=budget)
    assert result.success[right].all()
    found = result.l2 if norm == "l2" else result.linf
    assert float(found[right].mean()) == pytest.approx(float(expected.mean()), rel=1e-4)


@pytest.mark.slow
def test_agrees_carlini_wagner_is_no_worse_than_foolbox(resnet, test_set):
    foolbox = pytest.importorskip("foolbox")
    images, labels, ids = test_set(64)
    right = predict(resnet, images) == labels
    peer = foolbox.PyTorchModel(resnet, bounds=(0, 1), device="cpu")
    theirs = foolbox.attacks.L2CarliniWagnerAttack(steps=100).run(
        peer, images[right], foolbox.criteria.Misclassification(labels[right])
    )
    result = ours("cw", resnet, images, labels, ids, steps=100)
    assert result.success[right].all()
    expected = float((theirs - images[right]).flatten(1).norm(dim=1).mean())
    assert 0.9 * expected < float(result.l2[right].mean()) <= expected


def test_agrees_carlini_wagner_finds_negative_logits_too(resnet, test_set):
    class Logarithmic:
        def logits(self, images):
            return resnet.logits(images).log_softmax(dim=1)

        def logits_and_vjp(self, images, cotangent):
            def through(logits):
                v = cotangent(logits.log_softmax(dim=1))
                return v - logits.softmax(dim=1) * v.sum(dim=1, keepdim=True)

            logits, product = resnet.logits_and_vjp(images, through)
            return logits.log_softmax(dim=1), product

    images, labels, ids = test_set(4)
    right = predict(resnet, images) == labels
    assert (
        ours("cw", Logarithmic(), images, labels, ids, binary_search_steps=2, initial_c=1.0, steps=30)
        .success[right]
        .all()
    )


BALLS = [Budget(kind="linf", size=8 / 255), Budget(kind="l2", size=0.5)]
SMALL_BALLS = [Budget(kind="linf", size=1 / 255), Budget(kind="l2", size=0.1)]


def theirs_torchattacks(method, victim, images, labels, budget, **options):
    pytest.importorskip("torchattacks")
    norm = {"linf": "Linf", "l2": "L2"}[budget.norm]
    run = Torchattacks(victim).run(method, norm=norm, eps=budget.size, **options)
    return robust(victim, run(images, labels, 0), labels)


def theirs_art(method, victim, images, labels, budget, **options):
    pytest.importorskip("art")
    return robust(victim, Art(victim).run(method, budget, **options)(images, labels, 0), labels)


@pytest.mark.parametrize("budget", SMALL_BALLS, ids=str)  # no image survives the larger balls
def test_agrees_apgd_is_as_strong_as_torchattacks(resnet, test_set, budget):
    images, labels, ids = test_set(64)
    expected = theirs_torchattacks("APGD", resnet, images, labels, budget, steps=20, n_restarts=1)
    result = ours("apgd", resnet, images, labels, ids, budget=budget, steps=20)
    # One image is 1.6 points.
    assert float((result.source_pred == labels).float().mean()) <= expected + 0.016


@pytest.mark.slow
@pytest.mark.parametrize("budget", BALLS, ids=str)
def test_agrees_apgd_on_500_images_with_the_strongest_of_its_peers(resnet, test_set, budget):
    images, labels, ids = test_set(500)
    expected = min(
        theirs_torchattacks("APGD", resnet, images, labels, budget, steps=20, n_restarts=1),
        theirs_art("AutoProjectedGradientDescent", resnet, images, labels, budget, max_iter=20, nb_random_init=1,
                   eps_step=2 * budget.size, loss_type="cross_entropy"),
    )  # fmt: skip
    result = ours("apgd", resnet, images, labels, ids, budget=budget, steps=20)
    assert float((result.source_pred == labels).float().mean()) <= expected + 0.01


@pytest.mark.slow
@pytest.mark.parametrize("budget", BALLS, ids=str)
def test_agrees_square_on_500_images_with_the_strongest_of_its_peers(resnet, test_set, budget):
    images, labels, ids = test_set(500)
    expected = min(
        theirs_torchattacks("Square", resnet, images, labels, budget, n_queries=100),
        theirs_art("SquareAttack", resnet, images, labels, budget, max_iter=100, nb_restarts=1),
    )
    result = ours("square", resnet, images, labels, ids, budget=budget, queries=100)
    assert float((result.source_pred == labels).float().mean()) <= expected + 0.01


@pytest.mark.slow
def test_agrees_universal_perturbation_fools_more_than_arts(resnet, test_set):
    pytest.importorskip("art")
    training, held_out = test_set(100)[0], test_set(400, skip=1000)[0]
    radius = 0.08 * float(training.flatten(1).norm(dim=1).mean())
    expected = fooling_rate(resnet, held_out, Art(resnet).universal(training, radius, seed=0))
    budget = Budget(kind="l2", size=radius)
    for name, options in (("uap", {"epochs": 1}), ("uap_gradient", {})):
        vector = make_attack(name, options).train(resnet, training, budget=budget, seed=0)
        assert fooling_rate(resnet, held_out, vector) >= expected
