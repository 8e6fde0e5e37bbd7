import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from torch import nn

from stl_ray.defenses import Defended, deployed
from stl_ray.defenses.magnet import MagnetOptions, RefusingMagNet
from stl_ray.defenses.magnet_autoencoder import Autoencoder, MagnetAutoencoder
from stl_ray.defenses.magnet_detectors import MagnetDetector, divergence, statistics, thresholds
from stl_ray.errors import ArtifactError
from stl_ray.images import quantize
from stl_ray.models import Classifier, build_classifier, seeded
from stl_ray.seeding import seed_of

TEMPERATURES = (10.0, 40.0)


@pytest.fixture(scope="module")
def defense() -> RefusingMagNet:
    autoencoder = MagnetAutoencoder.of(seeded(lambda: Autoencoder(3), 0).state_dict())
    return RefusingMagNet(autoencoder, MagnetOptions())


@pytest.fixture(scope="module")
def classifier():
    return build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()


def test_agrees_divergence_with_scipy():
    generator = np.random.default_rng(0)
    first, second = 20 * generator.standard_normal((2, 50, 10))
    second[:5] = first[:5]
    for temperature in (1.0, *TEMPERATURES):
        distances = jensenshannon(softmax(first / temperature, 1), softmax(second / temperature, 1), axis=1)
        found = divergence(torch.tensor(first), torch.tensor(second), temperature)
        np.testing.assert_allclose(found.numpy(), distances**2, rtol=1e-9, atol=1e-15)
    # Disjoint distributions, whose probabilities underflow.
    far = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])
    assert float(divergence(*far, 1.0)) == pytest.approx(np.log(2))


@pytest.mark.parametrize("p", [1, 2])
def test_identity_the_first_statistic_is_the_mean_error(natural_images, p):
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand(natural_images.shape, generator=generator)
    logits = torch.randn(len(seen), 4, generator=generator)
    found = statistics(natural_images, seen, logits, logits, p, TEMPERATURES).numpy()
    error = (np.abs(natural_images.numpy().astype(np.float64) - seen.numpy()) ** p).mean((1, 2, 3))
    np.testing.assert_allclose(found[:, 0], error, rtol=1e-12)
    assert (found[:, 1:] == 0).all()  # the same logits


@pytest.mark.parametrize(("count", "rate"), [(5000, 0.005), (5000, 0.01), (1000, 0.01), (200, 0.005), (100, 0.25)])
def test_agrees_thresholds_with_numpy_and_drop_what_was_asked(count, rate):
    found = np.random.default_rng(count).exponential(size=(count, 2))
    limits = thresholds(found, [rate, 0.0])
    kept = 1 - round(count * rate) / count
    assert limits.tolist() == [np.quantile(found[:, 0], kept, method="inverted_cdf"), found[:, 1].max()]
    assert (found > limits).sum(0).tolist() == [round(count * rate), 0]


def test_identity_too_few_images_for_the_rate_drop_none():
    found = np.arange(1.0, 11.0)[:, None]
    assert thresholds(found, [0.01]).tolist() == [10.0]
    assert thresholds(found[:1], [0.9]).tolist() == [1.0]


def test_identity_the_rates_hold_on_the_images_of_the_calibration(defense, classifier):
    images = quantize(torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    # Of different contrasts, so that the statistics differ.
    images = quantize(0.5 + (images - 0.5) * torch.linspace(0.1, 1, 40)[:, None, None, None])
    rated = RefusingMagNet(defense.autoencoder, MagnetOptions(error_drop_rate=0.1, jsd_drop_rate=0.05))
    ids = [str(number) for number in range(40)]
    calibration = rated.calibrate(classifier, images, torch.zeros(40).long(), ids, 0)
    seen = deployed(rated, images, [0] * 40)
    logits = classifier.logits(images), classifier.logits(seen)
    found = statistics(images, seen, *logits, 1, TEMPERATURES).numpy()
    # A batch of 40 and tiles of 16 may round otherwise: what is on a threshold is on neither side.
    above = found > calibration["thresholds"] * (1 + 1e-5)
    assert above.sum(0).tolist() == [4, 2, 2]
    model = Defended(classifier, rated, "none", detector=rated.detector(classifier, calibration))
    decided = model.decide(images, ids)
    assert decided.rejected.tolist() == above.any(1).tolist()
    expected = (found / calibration["thresholds"]).max(1)
    np.testing.assert_allclose(decided.score.numpy(), expected, rtol=1e-4)
    # In another order the same thresholds.
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    again = rated.calibrate(classifier, images[order], torch.zeros(40).long(), [ids[row] for row in order], 0)
    assert again["thresholds"].tolist() == calibration["thresholds"].tolist()


@pytest.mark.parametrize("limits", [(1e-3, 1e3, 1e3), (1e3, 1e-3, 1e3), (1e3, 1e3, 1e-3)])
def test_certificate_the_derivative_by_differences(limits):
    """Of a network without kinks, whose logits are of order 10."""
    layers = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, 3)), 0)
    layers[3].weight.data.mul_(30)
    network = Classifier(layers, architecture="smooth", class_names=["a", "b", "c"]).double().eval()
    detector = MagnetDetector(network, torch.tensor(limits, dtype=torch.float64), 1, TEMPERATURES)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 8, 8, generator=generator, dtype=torch.float64)
    # Apart in every value, where the absolute error has a derivative.
    seen = (images + 0.1 * (1 + torch.rand(images.shape, generator=generator, dtype=torch.float64))).clamp(0, 2)
    along = torch.randn(2, *images.shape, generator=generator, dtype=torch.float64)
    v = torch.tensor([1.0, -2.0, 0.5])
    scores, for_images, for_seen = detector.scores_and_vjp(images, seen, lambda s: v.to(s))
    torch.testing.assert_close(scores, detector.scores(images, seen))
    slope = (for_images * along[0] + for_seen * along[1]).flatten(1).sum(1) / v
    step = 1e-5

    def ahead(factor: float) -> torch.Tensor:
        found = [one + factor * step * way for one, way in zip((images, seen), along, strict=True)]
        logits = [network.logits(one) for one in found]
        return (statistics(*found, *logits, 1, TEMPERATURES) / torch.tensor(limits)).amax(1)

    expected = (ahead(1) - ahead(-1)) / (2 * step)
    # Second order in the step; v went through float32, as scores do.
    torch.testing.assert_close(slope.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_identity_a_threshold_of_nothing_refuses_what_is_above_it():
    logits = torch.zeros(2, 3)

    class Same:
        def logits(self, images):
            return logits

    detector = MagnetDetector(Same(), torch.zeros(3, dtype=torch.float64), 1, TEMPERATURES)
    images = torch.zeros(2, 3, 8, 8)
    seen = images.clone()
    seen[1, 0, 0, 0] = 1 / 255
    scores = detector.scores(images, seen)
    assert scores[0] == 0 and 1 < scores[1] < torch.inf


def test_identity_calibrated_on_what_the_autoencoder_did_not_learn_from(defense):
    ids = [f"train/{number}" for number in range(300)]
    chosen = defense.chosen(ids, 7)
    keys = sorted(seed_of(7, name, "magnet window 0") for name in ids)
    assert [seed_of(7, name, "magnet window 0") for name in chosen] == keys[:30]
    assert chosen == defense.chosen(ids[::-1], 7)
    few = RefusingMagNet(defense.autoencoder, MagnetOptions(validation=5))
    assert few.chosen(ids, 7) == chosen[:5]


def test_refuses_a_calibration_of_another_defense(defense, classifier):
    for arrays in ({}, {"thresholds": np.ones(2)}, {"weights": np.ones(3)}):
        with pytest.raises(ArtifactError, match="not a calibration of magnet"):
            defense.detector(classifier, arrays)
