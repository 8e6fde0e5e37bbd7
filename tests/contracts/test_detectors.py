"""What holds for every defense of the registry that also refuses images."""

import pytest
import torch
from safetensors.numpy import load, save

from stl_ray.defenses import DEFENSES, Calibration, Defended, Detecting, Detector
from stl_ray.images import quantize
from stl_ray.models import Classifier, build_classifier, predict

DETECTING = [name for name, row in DEFENSES.items() if issubclass(row.defense, Detecting)]


@pytest.fixture(scope="module", params=DETECTING)
def defense(request, made) -> Detecting:
    return made(request.param)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()


@pytest.fixture(scope="module")
def training(natural_images) -> torch.Tensor:
    return quantize(natural_images)


@pytest.fixture(scope="module")
def calibration(defense, classifier, training, ids) -> Calibration:
    return defense.calibrate(classifier, training, predict(classifier, training), ids, 3)


@pytest.fixture(scope="module")
def detector(defense, classifier, calibration) -> Detector:
    return defense.detector(classifier, calibration)


@pytest.fixture
def model(defense, classifier, detector) -> Defended:
    return Defended(classifier, defense, defense.gradients[0], seed=4, detector=detector)


def test_invariant_the_calibration_is_the_same_in_any_order_and_leaves_all_as_it_was(
    defense, classifier, training, ids, calibration
):
    state, before = torch.random.get_rng_state(), training.clone()
    weights = [parameter.clone() for parameter in classifier.parameters()]
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    labels = predict(classifier, training)
    again = defense.calibrate(classifier, training[order], labels[order], [ids[row] for row in order.tolist()], 3)
    assert again.keys() == calibration.keys()
    assert all((again[name] == values).all() for name, values in calibration.items())
    assert torch.equal(torch.random.get_rng_state(), state) and torch.equal(training, before)
    assert all(torch.equal(*pair) for pair in zip(classifier.parameters(), weights, strict=True))
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_roundtrip_a_stored_calibration_gives_the_same_scores(defense, classifier, images, calibration, detector):
    stored = load(save({name: values.copy() for name, values in calibration.items()}))
    again = defense.detector(classifier, stored)
    assert torch.equal(again.scores(images, images), detector.scores(images, images))


def test_invariant_scores_of_the_image_alone(model, images, ids):
    state, before = torch.random.get_rng_state(), images.clone()
    whole = model.decide(images, ids[:8])
    assert torch.equal(torch.random.get_rng_state(), state) and torch.equal(images, before)
    assert whole.score.shape == (8,) and whole.score.dtype == torch.float32
    assert whole.score.isfinite().all() and float(whole.score.min()) >= 0
    assert torch.equal(whole.rejected, whole.score > 1)
    assert torch.equal(model.decide(images, ids[:8]).score, whole.score)
    for rows in ([5], [7, 3, 1, 0]):
        assert torch.equal(model.decide(images[rows], [ids[row] for row in rows]).score, whole.score[rows])


def test_certificate_scores_and_gradients_of_plain_images_are_finite(model, images):
    black = torch.zeros_like(images[:1])
    noise = quantize(torch.rand(black.shape, generator=torch.Generator().manual_seed(0)))
    flat = quantize(black + torch.tensor([0.25, 0.5, 0.875]).view(3, 1, 1))
    plain = torch.cat([black, black + 1, flat, noise])
    decided = model.decide(plain, list("abcd"))
    assert decided.score.isfinite().all() and float(decided.score.min()) >= 0
    victim = model.against(decided.prediction)
    logits, product = victim.logits_and_vjp(plain, torch.ones_like)
    assert logits.isfinite().all() and product.isfinite().all()


def test_agrees_the_gradient_with_finite_differences(defense, detector, images):
    """In float32, along the gradient itself, of each argument; most images, as some have a kink within the step."""
    x = images * 0.9 + 0.05
    seen = defense.views[0].purify(x, seeds=[0] * 8).images
    v = torch.linspace(0.5, 1.5, 8)
    scores, *products = detector.scores_and_vjp(x, seen, lambda scores: v)
    torch.testing.assert_close(scores, detector.scores(x, seen))
    assert any(product.any() for product in products)
    for product in filter(torch.any, products):
        direction = product / product.flatten(1).norm(dim=1)[:, None, None, None].clamp_min(1e-30)
        first = product is products[0]
        moved = [(x if first else seen) + sign * 0.01 * direction for sign in (1, -1)]
        ends = [detector.scores(*((y, seen) if first else (x, y))) for y in moved]
        measured, predicted = v * (ends[0] - ends[1]) / 0.02, (product * direction).flatten(1).sum(1)
        assert ((measured / predicted - 1).abs() < 0.1).float().mean() >= 0.5


def test_identity_the_joint_class_is_the_label_exactly_where_refused_or_right(model, images, ids):
    decided = model.decide(images, ids[:8])
    for shift in (0, 1):
        labels = (decided.prediction + shift) % 3
        failed = decided.rejected | (decided.prediction == labels)
        assert torch.equal(predict(model, images, labels) == labels, failed)
