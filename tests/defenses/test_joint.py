"""A classifier and its detector as one victim, and attacks on it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from stl_ray.attacks import ATTACKS, Budget, Universal, make_attack
from stl_ray.attacks.foolbox_engine import foolbox_attack
from stl_ray.defenses import Defended, Detector, make_defense
from stl_ray.defenses.base import Transformation
from stl_ray.defenses.by_autograd import TransformationByAutograd
from stl_ray.defenses.detector import DetectorByAutograd
from stl_ray.defenses.joint import joint_logits
from stl_ray.defenses.purified import Purified
from stl_ray.errors import TensorError
from stl_ray.evaluation import CascadeAttack, CascadeSettings, run_cascade
from stl_ray.images import quantize
from stl_ray.models import Victim, build_classifier, predict
from stl_ray.threats import ThreatTier
from tests.victims import Linear

IDS = [f"test/{index}" for index in range(8)]
LEVEL = 0.5


@dataclass(frozen=True)
class Differences(DetectorByAutograd):
    """Refuses an image whose horizontal differences are large in front of, or behind, the defense."""

    threshold: float

    def differentiable(self, images: Tensor, seen: Tensor) -> Tensor:
        parts = [batch.diff(dim=-1).square().flatten(1).mean(1) for batch in (images, seen)]
        return (parts[0] + 0.5 * parts[1]) / self.threshold


class Square(TransformationByAutograd):
    name = "square"

    def identity(self):
        return {"defense": self.name}

    def transformed(self, images, seeds):
        return images.square()


@dataclass(frozen=True)
class Fixed(Detector):
    """Scores that are what they are."""

    values: Tensor

    def scores(self, images, seen):
        return self.values[: len(images)].expand(len(images))

    def scores_and_vjp(self, images, seen, cotangent):
        scores = self.scores(images, seen)
        cotangent(scores)
        return scores, torch.zeros_like(images), torch.zeros_like(seen)


@pytest.fixture(scope="module")
def images(natural_images) -> Tensor:
    return quantize(natural_images[::3, :, 8:24, 8:24])


@pytest.fixture(scope="module")
def classifier(images) -> Victim:
    """Random, with a bias by which the images are of several classes."""
    network = build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()
    with torch.no_grad():
        network.backbone[-1].bias -= network.logits(images).mean(0)
    assert len(set(predict(network, images).tolist())) == 3
    return network


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_certificate_the_class_is_the_label_exactly_where_refused_or_right(classes):
    """Also for scores next to 1, logits that are alike, and logits and scores of any size."""
    generator = torch.Generator().manual_seed(0)
    close = [1 + sign * 2.0**-power for sign in (1, -1) for power in (2, 12, 23)]
    scores = torch.tensor([0, 0.3, 1, *close, 2, 5, 1e4, 1e30])
    for scale in (0, 1e-30, 1, 1e4, 1e30):
        for shift in (0, 100):
            logits = scale * torch.randn(40, classes, generator=generator) + shift
            logits[::3, 1] = logits[::3, 0]
            for score in scores.tolist():
                labels = torch.randint(classes, (40,), generator=generator)
                joint = joint_logits(logits, torch.full((40,), score), labels)
                failed = (logits.argmax(1) == labels) | (score > 1)
                assert joint.isfinite().all()
                assert ((joint.argmax(1) == labels) == failed).all(), (scale, shift, score)
                other = torch.arange(classes) != labels[:, None]
                assert torch.equal(joint[other], logits[other])


def test_identity_the_lead_of_the_label_is_the_excess_of_the_score():
    logits, labels = torch.tensor([[4.0, 1.0, 0.0]]), torch.tensor([1])
    for score, expected in ((0.0, 1.0), (0.5, 2.0), (2.0, 6.0), (4.0, 7.0), (1e20, 8.0)):
        assert joint_logits(logits, torch.tensor([score]), labels)[0, 1] == expected


@pytest.mark.parametrize("defense", [Square(), make_defense("none", {}, {})], ids=lambda defense: defense.name)
def test_agrees_with_finite_differences(images, defense):
    """Of the network, the detector in front of and behind the defense, and the transformation: in float64."""
    x, labels = images[:4].double() * 0.8 + 0.1, torch.tensor([0, 1, 2, 1])
    weights = torch.randn(3, *x.shape[1:], generator=torch.Generator().manual_seed(5))
    detector = Differences(1.0)
    middle = detector.scores(x, x).median().item()
    victim = Defended(Linear(weights), defense, "exact", rounded=False, detector=Differences(0.9 * middle)).against(
        labels
    )
    assert int((victim.detector.scores(x, defense.purify(x, seeds=range(4)).images) > 1).sum()) > 0
    v = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).double()
    logits, product = victim.logits_and_vjp(x, lambda logits: v)
    torch.testing.assert_close(logits, victim.logits(x))
    for seed in range(3):
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).double()
        ahead, behind = (victim.logits(x + sign * 1e-6 * direction) for sign in (1, -1))
        measured = ((ahead - behind) * v).sum(1) / 2e-6
        torch.testing.assert_close((product * direction).flatten(1).sum(1), measured, rtol=1e-5, atol=1e-7)


def test_identity_in_bpda_the_identity_replaces_the_transformation_and_nothing_else(images):
    x, labels = images[:4].double() * 0.8 + 0.1, torch.tensor([0, 1, 2, 1])
    weights = torch.randn(3, *x.shape[1:], generator=torch.Generator().manual_seed(5))
    detector = Differences(0.01)
    victim = Defended(Linear(weights), Square(), "bpda", rounded=False, detector=detector).against(labels)
    v = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).double()
    _, product = victim.logits_and_vjp(x, lambda logits: v)
    leaf, seen = x.clone().requires_grad_(), x.square().requires_grad_()
    network = seen.flatten(1) @ weights.double().flatten(1).T
    joint = joint_logits(network, detector.differentiable(leaf, seen), labels)
    own, behind = torch.autograd.grad(joint, (leaf, seen), v)
    torch.testing.assert_close(product, own + behind)


def test_identity_without_labels_or_detector_nothing_changes(images, classifier):
    plain = Defended(classifier, make_defense("none", {}, {}))
    detected = replace(plain, detector=Differences(1e-9))
    labels = torch.zeros(8, dtype=torch.int64)
    assert plain.against(labels) is plain
    assert torch.equal(detected.logits(images), plain.logits(images))
    assert predict(detected, images).tolist() == predict(plain, images).tolist()
    assert predict(detected, images, labels).tolist() == labels.tolist()
    decided, undetected = detected.decide(images, IDS), plain.decide(images, IDS)
    assert decided.prediction.tolist() == undetected.prediction.tolist()
    assert decided.rejected.all() and not undetected.rejected.any() and not undetected.score.any()
    assert (decided.score > 1).all() and decided.score.dtype == torch.float32
    for rows in ([5], [7, 1, 3]):
        part = detected.decide(images[rows], [IDS[row] for row in rows])
        assert torch.equal(part.score, decided.score[rows])


def test_refuses_scores_that_are_not_finite(images, classifier):
    model = Defended(classifier, make_defense("none", {}, {}), detector=Fixed(torch.tensor([torch.nan])))
    with pytest.raises(TensorError, match="scores are not finite for 2 of 2 images"):
        model.decide(images[:2], IDS[:2])


def test_identity_a_solve_that_diverged_is_not_refused(images, classifier):
    class Lost(Transformation):
        name = "lost"

        def identity(self):
            return {"defense": self.name}

        def purify(self, images, *, seeds, exclude=None):
            purified = Purified.without_solver(images.clone().index_fill(0, torch.tensor([0]), torch.nan))
            return replace(purified, status=["diverged", *purified.status[1:]])

    decided = Defended(classifier, Lost(), "none", detector=Fixed(torch.tensor([2.0]))).decide(images[:3], IDS[:3])
    assert decided.prediction[0] == -1
    assert decided.rejected.tolist() == [False, True, True]


QUICK = {"steps": 12, "restarts": 1, "targets": 2, "queries": 60, "binary_search_steps": 4, "epochs": 2, "batch": 5}


class Unaware:
    """The same victim to an attacker who does not know of the detector."""

    def __init__(self, victim: Defended) -> None:
        self.victim = replace(victim, detector=None)

    def logits(self, images: Tensor) -> Tensor:
        return self.victim.logits(images)

    def logits_and_vjp(self, images: Tensor, cotangent: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        return self.victim.logits_and_vjp(images, cotangent)


@pytest.mark.parametrize("name", [*ATTACKS, "foolbox:LinfPGD", "foolbox:HopSkipJumpAttack"])
def test_identity_every_attack_succeeds_only_with_images_that_the_detector_accepts(images, classifier, name):
    """Rows of tiles that are filled up, of survivors and of loops stay with their labels: every success is one of both."""
    victim = Defended(classifier, make_defense("none", {}, {}), "exact")
    score = Differences(1.0).scores(images, images)
    victim = replace(victim, detector=Differences(float(score.median()) * 1.05))
    labels = predict(victim, images)
    labels[6] = (labels[6] + 1) % 3
    engine, _, method = name.rpartition(":")
    if engine:
        options = {"steps": 5} if "PGD" in name else {"steps": 3, "max_gradient_eval_steps": 20, "init_attack": None}
        attack = foolbox_attack(method, {k: v for k, v in options.items() if v is not None})
    else:
        attack = make_attack(name, {k: v for k, v in QUICK.items() if k in ATTACKS[name].model_fields})
    norms = {"l2": Budget(kind="l2", size=1.5), "linf": Budget(kind="linf", size=8 / 255)}
    for budget in (norms[norm] for norm in norms if norm in (getattr(attack, "norm", norm),) and norm in attack.norms):
        if isinstance(attack, Universal):
            attack = attack.with_vector(attack.train(victim, images, budget=budget, seed=7))
        result = attack(victim, images, labels, budget=budget, ids=IDS, seed=7)
        decided = victim.decide(result.images, IDS)
        failed = decided.rejected | (decided.prediction == labels)
        assert ((result.source_pred == labels) == failed).all()
        rows = [7, 2, 4]
        if not isinstance(attack, Universal):
            part = attack(victim, images[rows], labels[rows], budget=budget, ids=[IDS[row] for row in rows], seed=7)
            assert torch.equal(part.images, result.images[rows])


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_identity_an_unaware_attack_trips_the_detector_and_a_joint_one_evades_it(images, classifier, loss):
    """One image, rolled up and down: a detector that lets hardly more differences through than it has."""
    images = torch.cat([images[5:6].roll(2 * number, dims=-2) for number in range(8)])
    plain = Defended(classifier, make_defense("none", {}, {}), "exact")
    model = replace(plain, detector=Differences(1.15 * float(Differences(1.0).scores(images, images)[0])))
    labels = predict(plain, images)
    attack, budget = make_attack("pgd", {"steps": 40, "loss": loss}), Budget(kind="l2", size=1.5)

    def outcomes(victim: Victim) -> tuple[int, int]:
        """How many images of an attack are refused, and how many are accepted under a wrong class."""
        result = attack(victim, images, labels, budget=budget, ids=IDS, seed=7, store="f32")
        decided = replace(model, rounded=False).decide(result.images, IDS)
        wrong = decided.prediction != labels
        return int(decided.rejected.sum()), int((wrong & ~decided.rejected).sum())

    assert not model.decide(images, IDS).rejected.any()
    assert outcomes(Unaware(model)) == (8, 0)
    assert outcomes(model)[1] >= 4


def test_identity_the_cascade_keeps_what_the_detector_said(images, classifier):
    victim = Defended(classifier, make_defense("none", {}, {}), "exact", detector=Differences(1e-9))
    labels = predict(victim, images)
    attack = CascadeAttack("pgd", ThreatTier.WHITE_BOX, make_attack("pgd", {"steps": 2}), victim)
    settings = CascadeSettings(Budget(size=0.05), "u8", seed=0, cascade=False)
    rows = run_cascade(victim, [attack], settings, images, labels, IDS)
    assert all([verdict["rejected"] for verdict in row] == [True, True] for row in rows)
