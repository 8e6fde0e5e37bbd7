"""What holds for every attack in the registry, whatever its method."""

import pytest
import torch

from stl_ray.attacks import ATTACKS, AttackResult, Budget, make_attack
from stl_ray.images import quantize
from stl_ray.metrics import dissimilarity as dissimilarity_of
from stl_ray.models import Classifier, build_classifier, predict

pytestmark = pytest.mark.parametrize("name", ATTACKS)

BUDGETS = [0.015, 0.08, 0.3]


@pytest.fixture(scope="module")
def images(natural_images) -> torch.Tensor:
    return quantize(natural_images[::3, :, 8:24, 8:24])


@pytest.fixture(scope="module")
def victim() -> Classifier:
    return build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()


def attack(name, victim, images, labels=None, *, dissimilarity=0.05, ids=None) -> AttackResult:
    labels = predict(victim, images) if labels is None else labels
    ids = [f"test/{index}" for index in range(len(images))] if ids is None else ids
    return make_attack(name, {})(victim, images, labels, budget=Budget(size=dissimilarity), ids=ids, seed=7)


def same(first: AttackResult, second: AttackResult, rows: list[int]) -> bool:
    """Whether `second` is the given rows of `first`, bit for bit."""
    tensors = ("images", "success", "dissimilarity", "linf", "queries", "source_pred")
    return [first.status[row] for row in rows] == second.status and all(
        torch.equal(getattr(first, field)[rows], getattr(second, field)) for field in tensors
    )


@pytest.mark.parametrize("budget", BUDGETS)
def test_certificate_budget_box_and_grid(name, victim, images, budget):
    result = attack(name, victim, images, dissimilarity=budget)
    exact = dissimilarity_of(result.images.double(), images.double())
    assert set(result.status) == {"ok"}
    assert bool((exact <= budget).all())
    assert bool((exact >= 0.98 * budget).all())
    assert bool((result.dissimilarity <= budget).all())
    assert torch.equal(quantize(result.images), result.images)  # finite, in the box and on the grid
    assert result.images.dtype == torch.float32


class ShapeSensitive:
    """A victim that answers a little differently in every size of batch, as numerical libraries do."""

    def __init__(self, victim):
        self.victim = victim

    def logits(self, images):
        logits = self.victim.logits(images)
        return logits + 1e-3 * len(images) * torch.arange(logits.shape[1])

    def logits_and_vjp(self, images, cotangent):
        logits, product = self.victim.logits_and_vjp(images, cotangent)
        return logits, product + len(images) * 1e-3 * product.roll(1, dims=-1)


def test_invariant_repeated_alone_in_a_batch_and_shuffled(name, victim, images):
    victim = ShapeSensitive(victim)
    ids = [f"test/{index}" for index in range(8)]
    labels = predict(victim, images)
    whole = attack(name, victim, images, labels, ids=ids)
    assert same(whole, attack(name, victim, images, labels, ids=ids), list(range(8)))
    for rows in ([5], [2, 3, 4], [7, 3, 1, 0, 2, 6, 5, 4]):
        part = attack(name, victim, images[rows], labels[rows], ids=[ids[row] for row in rows])
        assert same(whole, part, rows)


def test_invariant_victim_and_inputs_are_left_as_they_were(name, victim, images):
    for parameter in victim.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = {key: value.clone() for key, value in victim.state_dict().items()}
    before, labels = images.clone(), predict(victim, images)
    attack(name, victim, images, labels)
    assert torch.equal(images, before)
    assert torch.equal(labels, predict(victim, images))
    assert not victim.training
    assert all(torch.equal(value, state[key]) for key, value in victim.state_dict().items())
    for parameter in victim.parameters():
        assert parameter.requires_grad
        assert torch.equal(parameter.grad, torch.ones_like(parameter))


def test_invariant_random_state_of_the_process_is_neither_read_nor_changed(name, victim, images):
    before = torch.random.get_rng_state()
    first = attack(name, victim, images)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    assert same(first, attack(name, victim, images), list(range(8)))
    torch.random.set_rng_state(before)


def test_identity_status_success_and_predictions(name, victim, images):
    labels = predict(victim, images)
    labels[:4] = (labels[:4] + 1) % 3
    result = attack(name, victim, images, labels)
    assert result.status == ["already_wrong"] * 4 + ["ok"] * 4
    assert not result.success[:4].any()
    assert torch.equal(result.source_pred, predict(victim, result.images))
    assert torch.equal(result.success[4:], result.source_pred[4:] != labels[4:])
    assert bool((result.dissimilarity > 0.049).all())  # those that are wrong are attacked all the same


def test_identity_queries_are_the_passes_through_the_victim(name, victim, images):
    passes = []

    class Counting:
        def logits(self, batch):
            passes.append("verdict")
            return victim.logits(batch)

        def logits_and_vjp(self, batch, cotangent):
            passes.append("gradient")
            return victim.logits_and_vjp(batch, cotangent)

    result = attack(name, Counting(), images, predict(victim, images))
    assert passes.count("verdict") == 2  # one tile: the clean images and the attacked ones
    assert set(result.queries.tolist()) == {passes.count("gradient")}


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_certificate_flat_images_stay_finite_and_within_budget(name, victim, level):
    images = torch.full((1, 3, 24, 40), level / 255)
    result = attack(name, victim, images)
    change = (result.images.double() - images.double()).norm()
    assert change <= 0.05 * images.double().norm()
    assert torch.equal(quantize(result.images), result.images)
    if level == 0:
        assert result.status == ["budget_unreachable"]
        assert torch.equal(result.images, images)


def test_identity_one_class_has_no_gradient_and_no_success(name, images):
    victim = build_classifier("small_cnn", ["only"], seed=0).eval()
    result = attack(name, victim, images)
    assert set(result.status) == {"budget_unreachable"}
    assert not result.success.any()
    assert torch.equal(result.images, images)
