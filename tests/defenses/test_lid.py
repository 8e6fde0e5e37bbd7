from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from torch import Tensor, nn

from stl_ray.defenses import Defended, make_defense
from stl_ray.defenses.activations import read_activations
from stl_ray.defenses.lid import LARGEST, Features, LidDetector
from stl_ray.defenses.lid_calibration import RADIUS, attacked, noisy, regression
from stl_ray.errors import ArtifactError, ConfigError, StlRayError, TensorError, TrainingError
from stl_ray.evaluation import DefendedClassifier
from stl_ray.images import quantize
from stl_ray.models import Classifier, build_classifier, predict

IDS = [f"train/{index}" for index in range(24)]
LID = make_defense("lid", {"minibatch": 8, "neighbours": 4}, {})


@pytest.fixture(scope="module")
def images(natural_images) -> Tensor:
    return quantize(natural_images[:, :, 8:24, 8:24])


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()


@pytest.fixture(scope="module")
def calibration(classifier, images):
    return LID.calibrate(classifier, images, predict(classifier, images), IDS, 3)


def by_hand(network: Classifier, images: Tensor, minibatch: Tensor, neighbours: int) -> np.ndarray:
    """The estimates of a sequence of modules, layer by layer, in NumPy."""
    columns = []
    points, others = ((batch - network.mean) / network.std for batch in (images, minibatch))
    for layer in network.backbone:
        with torch.no_grad():
            points, others = layer(points.clone()), layer(others.clone())
        if isinstance(layer, nn.Flatten):
            continue
        here, there = (batch.flatten(1).double().numpy() for batch in (points, others))
        estimates = []
        for point in here:
            nearest = np.sort(np.sqrt(((there - point) ** 2).sum(1)))[:neighbours]
            with np.errstate(divide="ignore", invalid="ignore"):
                estimate = -1 / np.mean(np.log(nearest / nearest[-1]))
            estimates.append(0 if nearest[0] == 0 else min(estimate, LARGEST))
        columns.append(estimates)
    return np.array(columns).T


def test_identity_the_activations_of_the_minibatch_are_made_where_an_image_is_scored(classifier, calibration, images):
    """A driver has a detector too, whose activations may be gigabytes."""
    passed: list[int] = []
    hook = classifier.register_forward_pre_hook(lambda module, given: passed.append(len(given[0])))
    detector = LID.detector(classifier, calibration)
    assert passed == [1, 1]  # to see that it answers, and how many layers there are
    for _ in range(2):
        detector.scores(images[:1], images[:1])
    hook.remove()
    assert passed[2] >= 8 and passed[3:] == [1, 1]


def test_agrees_with_estimates_by_hand_at_every_layer(classifier, images):
    features = Features.of(classifier, (images[:8] * 255).byte(), 4)
    found = features.in_tiles(images[8:])
    assert found.shape[1] == sum(not isinstance(layer, nn.Flatten) for layer in classifier.backbone)
    np.testing.assert_allclose(found.numpy(), by_hand(classifier, images[8:], images[:8], 4), rtol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_agrees_with_the_probability_of_the_regression(classifier, images, calibration):
    """scikit-learn's pipeline on the same estimates: p / (1 - p), or 1 and its logarithm where that is above 1."""
    labels = predict(classifier, images)
    features = Features.of(classifier, torch.from_numpy(calibration["minibatch"]), 4)
    kept = {image.numpy().tobytes() for image in torch.from_numpy(calibration["minibatch"])}
    rest = [row for row, image in enumerate((images * 255).round().byte()) if image.numpy().tobytes() not in kept]
    assert len(rest) == 16
    adversarial = attacked(classifier, images[rest], labels[rest])
    accepted = features.in_tiles(torch.cat([images[rest], noisy(images[rest], adversarial, range(16))]))
    refused = features.in_tiles(adversarial)
    weights, intercept = regression(accepted, refused)
    pipeline = make_pipeline(MinMaxScaler(), LogisticRegressionCV(scoring="accuracy", max_iter=10_000))
    pipeline.fit(torch.cat([accepted, refused]).numpy(), np.repeat([0, 1], [32, 16]))
    detector = LidDetector(features, torch.from_numpy(weights), float(intercept[0]))
    scores = detector.scores(images, images)
    p = torch.from_numpy(pipeline.predict_proba(features.in_tiles(images).numpy())[:, 1])
    odds = p / (1 - p)
    torch.testing.assert_close(scores.double(), torch.where(odds > 1, 1 + odds.log(), odds), rtol=1e-3, atol=1e-6)
    assert torch.equal(scores > 1, torch.from_numpy(pipeline.predict(features.in_tiles(images).numpy()) == 1))


def test_identity_attacked_and_noisy_images(classifier, images):
    labels = predict(classifier, images)
    adversarial = attacked(classifier, images, labels)
    assert float((adversarial - images).abs().max()) <= RADIUS + 1e-6
    before, after = (classifier.logits(batch).softmax(1).gather(1, labels[:, None]) for batch in (images, adversarial))
    assert (after < before).all()
    noise = noisy(images, adversarial, range(24))
    lengths = [(batch - images).flatten(1).norm(dim=1) for batch in (noise, adversarial)]
    assert ((lengths[0] / lengths[1] - 1).abs() < 0.1).float().mean() > 0.8  # clipping shortens some
    assert all(torch.equal(quantize(batch), batch) for batch in (adversarial, noise))
    assert torch.equal(noisy(images[[5]], adversarial[[5]], [5]), noise[[5]])


def test_certificate_it_tells_attacked_images_of_a_trained_network_apart():
    """Classes by colour, in noise: the estimates of a network that has learned them know attacked images."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    colour = 0.35 + 0.3 * torch.eye(3)[labels][:, :, None, None]
    images = quantize((colour + 0.15 * torch.randn(120, 3, 12, 12, generator=generator)).clamp(0, 1))
    classifier = build_classifier("small_cnn", ["r", "g", "b"], seed=0)
    optimizer = torch.optim.Adam(classifier.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(classifier.train()(images), labels).backward()
        optimizer.step()
    classifier.eval()
    lid, ids = make_defense("lid", {"minibatch": 30, "neighbours": 10}, {}), [str(row) for row in range(120)]
    detector = lid.detector(classifier, lid.calibrate(classifier, images[:90], labels[:90], ids[:90], 0))
    fresh, true = images[90:], labels[90:]
    adversarial = attacked(classifier, fresh, true)
    clean, worse = (detector.scores(batch, batch) for batch in (fresh, adversarial))
    assert (worse[:, None] > clean[None]).float().mean() > 0.75
    assert (clean > 1).float().mean() < 0.3


def test_agrees_the_gradient_with_finite_differences(classifier, images, calibration):
    """In float64, of the whole detector."""
    wide = build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval().double()
    detector = LID.detector(wide, calibration)
    x = images[:3].double() * 0.9 + 0.05
    x += 0.01 * torch.rand(
        x.shape, generator=torch.Generator().manual_seed(1)
    )  # pooling has no derivative of flat regions
    scores, own, behind = detector.scores_and_vjp(x, x, torch.ones_like)
    assert not own.any() and behind.flatten(1).any(1).all()
    torch.testing.assert_close(scores, detector.scores(x, x))
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    ahead, below = (detector.scores(x, x + step * direction) for step in (1e-7, -1e-7))
    torch.testing.assert_close((behind * direction).flatten(1).sum(1), (ahead - below) / 2e-7, rtol=1e-3, atol=1e-6)


def test_identity_layers_that_work_in_place_and_functions_are_read():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.conv(x)).relu_()
            x = nn.functional.relu6(nn.functional.max_pool2d(x, 2))
            windows = x.unfold(2, 2, 2).permute(0, 2, 1, 3, 4).flatten(0, 1)
            assert len(nn.functional.relu(windows)) > len(x)
            return x.flatten(1)

    layers: list[Tensor] = []
    x = torch.rand(2, 3, 10, 10)
    read_activations(Net().eval(), x, layers.append)
    assert [layer.shape[-1] for layer in layers] == [8, 8, 8, 4, 4]
    assert (layers[1] < 0).any() and not (layers[2] < 0).any()
    torch.stack([layer.sum() for layer in layers]).sum().backward()


class Bare:
    """A victim that is no torch module."""

    def __init__(self, victim: Classifier) -> None:
        self.logits, self.logits_and_vjp = victim.logits, victim.logits_and_vjp


def test_refuses_networks_that_cannot_be_read_and_calibrations_of_others(classifier, images, calibration):
    with pytest.raises(ConfigError, match=r"activations cannot be read.*got Bare"):
        DefendedClassifier.of(LID, Bare(classifier), "digest", 0)
    silent = Classifier(nn.Flatten(), architecture="x", class_names=[str(c) for c in range(768)]).eval()
    with pytest.raises(ConfigError, match="no layers that can be read"):
        LID.calibrate(silent, images, predict(silent, images), IDS, 0)
    training = build_classifier("small_cnn", ["a", "b", "c"], seed=0).train()
    before = {name: value.clone() for name, value in training.state_dict().items()}
    with pytest.raises(StlRayError, match="training mode"):
        LID.detector(training, calibration)
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())
    labels = predict(classifier, images)
    for count, true in ((17, labels), (8, labels), (3, labels), (24, (labels + 1) % 3)):
        with pytest.raises(TrainingError, match="too few training images; expected at least 18, 10 of which"):
            LID.calibrate(classifier, images[:count], true[:count], IDS[:count], 0)
    with pytest.raises(ArtifactError, match=r"not a calibration of lid"):
        LID.detector(classifier, {"threshold": np.ones(1)})
    with pytest.raises(ArtifactError, match="of another classifier; expected 13 layers"):
        LID.detector(classifier, {**calibration, "weights": np.ones(3)})


def test_identity_a_joint_attack_goes_through_the_estimates(classifier, images, calibration):
    model = Defended(classifier, LID, "exact", detector=LID.detector(classifier, calibration))
    labels = predict(classifier, images[:4])
    victim = model.against(labels)
    score = model.decide(images[:4], IDS[:4]).score
    logits, product = victim.logits_and_vjp(images[:4], lambda logits: nn.functional.one_hot(labels, 3).float())
    assert ((logits.argmax(1) == labels) | (score > 1)).all()
    _, plain = replace(model, detector=None).logits_and_vjp(
        images[:4], lambda logits: nn.functional.one_hot(labels, 3).float()
    )
    assert product.isfinite().all() and bool((product != plain).flatten(1).any(1)[score > 1].all())


def test_refuses_images_of_another_size_than_the_calibration_s(classifier, images, calibration):
    detector = LID.detector(classifier, calibration)
    with pytest.raises(
        TensorError, match=r"lid: images of another size .* set ingest.size; expected \(16, 16\); got \(12, 16\)"
    ):
        detector.scores(images[:2, :, :12], images[:2, :, :12])


def test_invariant_as_many_images_are_chosen_as_a_minibatch_and_its_regression_need():
    ids = [str(number) for number in range(5000)]
    for minibatch, most in ((100, 1000), (1000, 2020)):
        lid = make_defense("lid", {"minibatch": minibatch}, {})
        assert len(lid.chosen(ids, 0)) == most


def test_invariant_scores_of_clean_images_are_told_apart_far_below_one(classifier, images, calibration):
    surer = {**calibration, "intercept": calibration["intercept"] - 40}
    scores = LID.detector(classifier, surer).scores(images, images)
    assert float(scores.max()) < 1e-12 and len(scores.unique()) > len(images) // 2
