import pytest
import torch

from stl_ray.defenses import Defended, RobustClassifier
from stl_ray.errors import ConfigError
from stl_ray.evaluation import DefendedClassifier
from stl_ray.images import quantize
from stl_ray.models import Classifier, build_classifier, predict

NAMES = ["cat", "dog", "frog", "horse"]


@pytest.fixture(scope="module")
def own() -> Classifier:
    return build_classifier("small_cnn", NAMES, seed=0).eval()


@pytest.fixture(scope="module")
def robust() -> Classifier:
    return build_classifier("thermometer_resnet20", NAMES, seed=1).eval()


def test_identity_it_answers_and_is_attacked_in_the_other_one_s_place(own, robust, natural_images):
    images = quantize(natural_images)
    ids = [str(number) for number in range(len(images))]
    for gradient in ("exact", "bpda"):
        model = Defended(own, RobustClassifier(robust), gradient)
        assert model.decide(images, ids).prediction.tolist() == predict(robust, images).tolist()
        logits, product = model.logits_and_vjp(images, torch.sin)
        expected = robust.logits_and_vjp(images, torch.sin)
        assert torch.equal(logits, expected[0]) and torch.equal(product, expected[1])
    assert predict(own, images).tolist() != predict(robust, images).tolist()


def test_identity_it_is_the_network_that_it_is_made_with(robust):
    same = build_classifier("thermometer_resnet20", NAMES, seed=1).eval()
    other = build_classifier("thermometer_resnet20", NAMES, seed=2).eval()
    identity = RobustClassifier(robust).identity()
    assert RobustClassifier(same).identity() == identity != RobustClassifier(other).identity()


@pytest.mark.parametrize("names", [NAMES[:3], [*NAMES[1:], NAMES[0]]])
def test_refuses_other_classes_before_any_work(own, names):
    other = build_classifier("small_cnn", names, seed=0).eval()
    with pytest.raises(ConfigError, match=r"other classes; expected 4 \(cat, dog, frog, ...\); got [34] \("):
        DefendedClassifier.of(RobustClassifier(other), own, "digest", 0)


def test_identity_classes_without_names_are_told_apart_by_their_number_alone(own):
    """As of a bare module in a notebook."""
    numbered = build_classifier("small_cnn", ["0", "1", "2", "3"], seed=0).eval()
    for one, other in ((numbered, own), (own, numbered)):
        assert DefendedClassifier.of(RobustClassifier(one), other, "digest", 0).defense.classifier is one
    with pytest.raises(ConfigError, match="other classes"):
        DefendedClassifier.of(RobustClassifier(build_classifier("small_cnn", ["0", "1"], seed=0).eval()), own, "", 0)
