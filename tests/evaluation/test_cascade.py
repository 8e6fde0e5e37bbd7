import pytest
import torch

from stl_ray.attacks import Budget, make_attack
from stl_ray.csc import Dictionary
from stl_ray.defenses import Defended, make_defense
from stl_ray.evaluation import CascadeAttack, CascadeSettings, run_cascade
from stl_ray.images import quantize
from stl_ray.models import build_classifier, predict
from stl_ray.space import QuasiNaturalSpace
from stl_ray.threats import ThreatTier

IDS = [f"test/{index}" for index in range(8)]


@pytest.fixture(scope="module")
def images(natural_images) -> torch.Tensor:
    return quantize(natural_images[::3, :, :16, :16])


@pytest.fixture(scope="module")
def victims() -> dict[str, Defended]:
    filters = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    filters = filters - filters.mean((2, 3), keepdim=True)
    space = QuasiNaturalSpace.from_dictionary(
        Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], lmbda=0.1)
    )
    defense = make_defense("stl", {}, {"space": space, "solver": "auto"})
    classifier = build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()
    return {gradient: Defended(classifier, defense, gradient) for gradient in ("exact", "bpda")}


@pytest.fixture(scope="module")
def labels(victims, images) -> torch.Tensor:
    """Predictions of the pipeline on the clean images; the first label is wrong."""
    found = predict(victims["exact"], images)
    found[0] = (found[0] + 1) % 3
    return found


def cascade_attacks(victims) -> list[CascadeAttack]:
    return [
        CascadeAttack("bpda", ThreatTier.BPDA, make_attack("bim", {"steps": 3}), victims["bpda"]),
        CascadeAttack("exact", ThreatTier.WHITE_BOX, make_attack("bim", {"steps": 3}), victims["exact"]),
    ]


def cascade(victims, images, labels, *, rows=range(8), size=0.02, **settings):
    rows = list(rows)
    return run_cascade(
        victims["exact"],
        cascade_attacks(victims),
        CascadeSettings(Budget(size=size), "u8", seed=0, **settings),
        images[rows],
        labels[rows],
        [IDS[row] for row in rows],
    )


def test_invariant_only_survivors_are_attacked(victims, images, labels):
    found = cascade(victims, images, labels)
    assert [verdict["attack"] for verdict in found[0]] == ["clean"]
    for own, label in zip(found[1:], labels[1:].tolist(), strict=True):
        wrong = [verdict["prediction"] != label for verdict in own]
        assert not any(wrong[:-1])
        assert wrong[-1] or len(own) == 3
    assert {len(own) for own in found} >= {1, 3}


def test_agrees_with_attacking_every_image(victims, images, labels):
    spared, whole = cascade(victims, images, labels), cascade(victims, images, labels, cascade=False)
    assert {len(own) for own in whole} == {3}
    for ours, theirs in zip(spared, whole, strict=True):
        assert ours == theirs[: len(ours)]


def test_invariant_batch_mates(victims, images, labels):
    whole = cascade(victims, images, labels)
    for rows in ([3], [6, 1, 2]):
        assert cascade(victims, images, labels, rows=rows) == [whole[row] for row in rows]


def test_identity_verdicts_are_on_the_stored_image_within_the_budget(victims, images, labels):
    stored = {}

    def seen(attack, positions, result):
        for row, position in enumerate(positions):
            stored[attack.name, position] = result.images[row]

    found = run_cascade(
        victims["exact"],
        cascade_attacks(victims),
        CascadeSettings(Budget(size=0.02), "u8", 0),
        images,
        labels,
        IDS,
        seen=seen,
    )
    checked = 0
    for position, own in enumerate(found):
        for verdict in own[1:]:
            image = stored[verdict["attack"], position]
            assert predict(victims["exact"], image[None]).item() == verdict["prediction"]
            assert torch.equal(image, quantize(image))
            moved = float((image - images[position]).norm() / images[position].norm())
            assert moved <= 0.02
            assert abs(moved - verdict["dissimilarity"]) < 1e-6
            assert abs(moved / 0.02 - verdict["share"]) < 1e-4
            checked += 1
    assert checked > 4


def test_identity_images_out_of_time_have_that_status(victims, images, labels):
    found = cascade(victims, images, labels, seconds=-1.0)
    assert all(verdict["status"] == "out_of_time" for own in found[1:] for verdict in own[1:])
    assert {len(own) for own in found[1:]} == {3}  # not attacked, so not misclassified


def test_identity_earlier_verdicts_come_first(victims, images, labels):
    old = {
        "attack": "set",
        "tier": "T1a",
        "prediction": -1,
        "rejected": False,
        "status": "ok",
        "dissimilarity": 0,
        "linf": 0,
        "queries": 0,
    }
    earlier = [[{**old, "prediction": int(label) if row != 4 else 99}] for row, label in enumerate(labels)]
    found = run_cascade(
        victims["exact"],
        cascade_attacks(victims),
        CascadeSettings(Budget(size=0.02), "u8", 0),
        images,
        labels,
        IDS,
        earlier=earlier,
    )
    assert [verdict["attack"] for verdict in found[4]] == ["clean", "set"]
    assert [verdict["attack"] for verdict in found[3]][:3] == ["clean", "set", "bpda"]
