"""Contract of every attack in the registry."""

from dataclasses import fields

import pytest
import torch

from stl_ray.attacks import ATTACKS, Attack, AttackResult, Budget, FixedBudget, MinimumNorm, Universal, make_attack
from stl_ray.errors import ConfigError, TensorError
from stl_ray.images import quantize
from stl_ray.models import Classifier, build_classifier, predict

pytestmark = pytest.mark.parametrize("name", ATTACKS)

STORED = [
    (Budget(size=0.015), "u8"),
    (Budget(size=0.3), "f32"),
    (Budget(size=0.08, space="standardized"), "u8"),
    (Budget(kind="l2", size=1.0), "f32"),
    (Budget(kind="linf", size=8 / 255), "u8"),
]
"""A budget of each kind and both kinds of storage; tests/attacks/test_budget_projection.py has more of them."""

SMALL = Budget(size=0.05)

QUICK = {
    "steps": 6,
    "restarts": 2,
    "targets": 2,
    "queries": 25,
    "binary_search_steps": 3,
    "epochs": 2,
    "batch": 5,
}
"""Values with which a contract takes a moment, for every attack that has the option."""

CROSS_ENTROPY = ("fgsm", "bim", "pgd", "apgd", "autoattack", "uap_gradient")
"""Attacks that maximise it, by default or among others."""

WITHOUT_GRADIENTS = ("square", "noise")
"""Attacks that ask for none."""


@pytest.fixture(scope="module")
def images(natural_images) -> torch.Tensor:
    return quantize(natural_images[::3, :, 8:24, 8:24])


@pytest.fixture(scope="module")
def victim() -> Classifier:
    return build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()


def made(name) -> Attack:
    return make_attack(name, {key: value for key, value in QUICK.items() if key in ATTACKS[name].model_fields})


def attack(name, victim, images, labels=None, *, budget=SMALL, ids=None, store="u8") -> AttackResult:
    labels = predict(victim, images) if labels is None else labels
    ids = [f"test/{index}" for index in range(len(images))] if ids is None else ids
    method = made(name)
    if isinstance(method, Universal):
        # One vector of a fixed norm that is within the budget of every image, trained on other images.
        budget = budget if budget.kind != "dissimilarity" else Budget(kind="l2", size=budget.size)
        training = quantize(torch.rand(12, *images.shape[1:], generator=torch.Generator().manual_seed(0)))
        method = method.with_vector(method.train(victim, training, budget=budget, seed=7))
    return method(victim, images, labels, budget=budget, ids=ids, seed=7, store=store)


def universal(name) -> bool:
    return isinstance(made(name), Universal)


def same(first: AttackResult, second: AttackResult, rows: list[int]) -> bool:
    """Whether `second` is the given rows of `first`, bit for bit."""
    tensors = [field.name for field in fields(AttackResult) if field.name != "status"]
    return [first.status[row] for row in rows] == second.status and all(
        torch.equal(getattr(first, field)[rows], getattr(second, field)) for field in tensors
    )


def distance(images, clean, budget) -> torch.Tensor:
    """The distance that a budget limits, in float64, by definition."""
    images, clean = images.double(), clean.double()
    if budget.kind == "linf":
        return (images - clean).flatten(1).abs().amax(dim=1)
    mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    if budget.space == "standardized":
        mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    change = ((images - clean) / std).flatten(1).norm(dim=1)
    return change if budget.kind == "l2" else change / ((clean - mean) / std).flatten(1).norm(dim=1)


@pytest.mark.parametrize(("budget", "store"), STORED, ids=str)
def test_certificate_budget_box_and_storage(name, victim, images, budget, store):
    if budget.norm not in made(name).norms:
        with pytest.raises(ConfigError, match="does not support the norm"):
            attack(name, victim, images, budget=budget)
        return
    result = attack(name, victim, images, budget=budget, store=store)
    exact = distance(result.images, images, budget)
    # 8 / 255 is no float64; the difference of two float32 pixels is off by their rounding.
    assert bool((exact <= budget.size * (1 + 1e-6) + (1e-7 if budget.kind == "linf" else 0)).all())
    full = torch.tensor([status in ("ok", "over_budget") for status in result.status])
    if isinstance(made(name), MinimumNorm):
        full = torch.tensor([status == "over_budget" for status in result.status])
    full &= not universal(name)  # clipping shortens the vector
    assert bool((exact[full] >= {"u8": 0.98, "f32": 0.999}[store] * budget.size).all())
    assert set(result.status) <= {"ok", "over_budget", "not_found"}
    assert result.images.isfinite().all() and 0 <= float(result.images.min()) <= float(result.images.max()) <= 1
    assert store == "f32" or torch.equal(quantize(result.images), result.images)
    assert result.images.dtype == torch.float32
    l2 = (result.images.double() - images.double()).flatten(1).norm(dim=1).float()
    torch.testing.assert_close(result.l2, l2, rtol=1e-5, atol=1e-6)
    if budget.kind == "dissimilarity" and budget.space == "pixel":
        assert bool((result.dissimilarity <= budget.size).all())


class ShapeSensitive:
    """A victim whose logits depend slightly on the batch size, as with numerical libraries."""

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
    assert result.status[:4] == ["already_wrong"] * 4
    assert "already_wrong" not in result.status[4:]
    assert not result.success[:4].any()
    assert torch.equal(result.source_pred, predict(victim, result.images))
    assert torch.equal(result.success[4:], result.source_pred[4:] != labels[4:])
    if isinstance(made(name), FixedBudget):
        assert bool((result.dissimilarity > 0.049).all())  # misclassified images are attacked as well


def test_identity_queries_are_the_passes_through_the_victim(name, victim, images, monkeypatch):
    # One slot per tile: with more, speculative trials share a pass.
    monkeypatch.setattr("stl_ray.attacks.problem.tile_size", lambda *_: 1)
    passes = []

    class Counting:
        def logits(self, batch):
            passes.append(1)
            return victim.logits(batch)

        def logits_and_vjp(self, batch, cotangent):
            passes.append(1)
            return victim.logits_and_vjp(batch, cotangent)

    if universal(name):
        pytest.skip("a vector asks nothing when it is applied")
    labels = predict(victim, images[:1])
    # Verdicts are not counted.
    for module in ("problem", "result"):
        monkeypatch.setattr(f"stl_ray.attacks.{module}.decided", lambda _, batch, *labels: predict(victim, batch))
    result = attack(name, Counting(), images[:1], labels)
    assert int(result.queries[0]) == len(passes)


@pytest.mark.parametrize("level", [0, 1, 255])
def test_certificate_flat_images_stay_finite_and_within_budget(name, victim, level):
    if universal(name):
        pytest.skip("a vector's budget is of no image")
    images = torch.full((1, 3, 24, 40), level / 255)
    result = attack(name, victim, images)
    change = (result.images.double() - images.double()).norm()
    assert change <= 0.05 * images.double().norm()
    assert torch.equal(quantize(result.images), result.images)
    if level == 0:
        assert result.status[0] in ("budget_unreachable", "not_found")
        assert torch.equal(result.images, images)


def test_identity_one_class_has_no_success(name, images):
    victim = build_classifier("small_cnn", ["only"], seed=0).eval()
    result = attack(name, victim, images)
    assert not result.success.any()
    if isinstance(made(name), MinimumNorm):
        assert set(result.status) == {"not_found"}
        assert torch.equal(result.images, images)
    elif isinstance(made(name), FixedBudget):
        assert set(result.status) == {"ok" if name in WITHOUT_GRADIENTS else "no_gradient"}


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_refuses_a_label_that_is_no_class(name, images, classes):
    victim = build_classifier("small_cnn", list("abc")[:classes], seed=0).eval()
    for wrong in (classes, -1):
        labels = torch.tensor([0, wrong, 0])
        with pytest.raises(TensorError, match="label"):
            attack(name, victim, images[:3], labels)


@pytest.mark.parametrize("store", ["u8", "f32"])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_identity_a_split_of_one_class_is_attacked(name, images, classes, store):
    """All labels alike, which most predictions may not be."""
    victim = build_classifier("small_cnn", list("abc")[:classes], seed=0).eval()
    labels = torch.full((3,), classes - 1)
    result = attack(name, victim, images[:3], labels, store=store)
    correct = predict(victim, images[:3]) == labels
    assert [status == "already_wrong" for status in result.status] == (~correct).tolist()
    assert torch.equal(result.success, correct & (result.source_pred != labels))


@pytest.mark.parametrize("classes", [2, 3, 1000])
def test_identity_any_number_of_classes_can_be_attacked(name, images, classes):
    linear = torch.nn.Linear(images[0].numel(), classes)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(0)) / 10)
    names = [str(index) for index in range(classes)]
    victim = Classifier(
        torch.nn.Sequential(torch.nn.Flatten(), linear), architecture="linear", class_names=names
    ).eval()
    result = attack(name, victim, images[:3], budget=Budget(size=0.3), store="f32")
    assert result.success.any() or not result.queries.any()  # an attack without queries is random


class BrokenNear(torch.nn.Module):
    """A victim whose gradients, or logits, are NaN near one image."""

    def __init__(self, victim, image, answer):
        super().__init__()
        self.victim, self.image, self.answer = victim, image, answer

    def spoiled(self, answer, images):
        near = (images - self.image).flatten(1).norm(dim=1) < 0.1 * self.image.norm()
        return torch.where(near.view(-1, *[1] * (answer.dim() - 1)), torch.nan, answer)

    def logits(self, images):
        logits = self.victim.logits(images)
        return self.spoiled(logits, images) if self.answer == "logits" else logits

    def logits_and_vjp(self, images, cotangent):
        _, product = self.victim.logits_and_vjp(images, cotangent)
        return self.logits(images), self.spoiled(product, images)


@pytest.mark.parametrize("answer", ["products", "logits"])
def test_invariant_an_image_without_a_finite_answer_has_a_status_and_its_mates_go_on(name, victim, images, answer):
    ids, labels = [f"test/{index}" for index in range(8)], predict(victim, images)
    broken = BrokenNear(victim, images[3], answer)
    whole = attack(name, broken, images, labels, ids=ids)
    rows = [0, 1, 2, 4, 5, 6, 7]
    assert same(whole, attack(name, broken, images[rows], labels[rows], ids=[ids[row] for row in rows]), rows)
    assert "gradient_not_finite" not in [whole.status[row] for row in rows]
    assert same(whole, attack(name, broken, images[3:4], labels[3:4], ids=ids[3:4]), [3])
    asked = answer == "logits" or not (name in WITHOUT_GRADIENTS or universal(name))
    assert whole.status[3] == "gradient_not_finite" if asked else whole.status[3] in ("ok", "budget_unreachable")
    assert whole.images.isfinite().all()
    assert not whole.success[3] or not asked


def test_invariant_a_victim_that_standardises_every_image_meets_no_other_image(name, images):
    # Of a flat image, as black filler is, 0 / 0.
    class Standardised(torch.nn.Module):
        def forward(self, batch):
            flat = batch.flatten(1)
            return linear((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True))

    linear = torch.nn.Linear(images[0].numel(), 3)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(0)) / 10)
    victim = Classifier(Standardised(), architecture="x", class_names="abc", mean=[0] * 3, std=[1] * 3).eval()
    result = attack(name, victim, images[:5], budget=Budget(size=0.3), store="f32")
    assert result.success.any() or not result.queries.any()
    assert "gradient_not_finite" not in attack(name, victim, images[:5]).status


def test_invariant_inference_mode(name, victim, images):
    expected, labels = attack(name, victim, images), predict(victim, images)
    with torch.inference_mode():
        assert same(expected, attack(name, victim, images.clone(), labels.clone()), list(range(8)))


class Scaled:
    """A victim whose logits are multiplied by a power of two."""

    def __init__(self, victim, exponent):
        self.victim, self.scale = victim, 2.0**exponent  # the square of 2^-60 is 0 in float32

    def logits(self, images):
        return self.scale * self.victim.logits(images)

    def logits_and_vjp(self, images, cotangent):
        logits, product = self.victim.logits_and_vjp(images, lambda logits: cotangent(self.scale * logits))
        return self.scale * logits, self.scale * product


@pytest.mark.parametrize("budget", [Budget(size=0.3), Budget(kind="linf", size=64 / 255)], ids=str)
@pytest.mark.parametrize("exponent", [-60, -30, 10, 20])
def test_invariant_a_power_of_two_of_the_logits_changes_no_bit(name, victim, images, exponent, budget):
    """Except by the cross-entropy, which is not scale-free, and of which more than its limits cannot be said."""
    if budget.norm not in made(name).norms:
        pytest.skip("the method knows L2 alone")
    labels = predict(victim, images)

    def at(exponent):
        return attack(name, Scaled(victim, exponent), images, labels, budget=budget, store="f32")

    result = at(exponent)
    if name not in CROSS_ENTROPY:
        assert same(at(0), result, list(range(8)))
    elif exponent < 0:  # as far as softmax can tell, all classes are equally likely
        assert same(at(-40), result, list(range(8)))
        assert result.success.any() or universal(name)
    elif exponent == 20:  # softmax is 0 or 1
        held = [status for status, success in zip(result.status, result.success.tolist(), strict=True) if not success]
        assert set(held) <= {"ok" if name == "autoattack" else "no_gradient"}


def test_identity_linf_is_attacked_on_its_own_too(name, victim, images):
    if "linf" not in made(name).norms:
        pytest.skip("the method knows L2 alone")
    budget = Budget(kind="linf", size=8 / 255)
    ids = [f"test/{index}" for index in range(8)]
    labels = predict(victim, images)
    whole = attack(name, victim, images, labels, budget=budget, ids=ids, store="f32")
    rows = [6, 1, 3]
    part = attack(name, victim, images[rows], labels[rows], budget=budget, ids=[ids[row] for row in rows], store="f32")
    assert same(whole, part, rows)
