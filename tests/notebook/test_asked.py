"""What a call asks for, and what its session is made of, before any work."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import stl_ray
from stl_ray.config import NamedAttack, NamedDefense, TiersConfig
from stl_ray.defenses import Purified, Transformation, make_defense
from stl_ray.defenses.patch_dictionary import PatchDictionary
from stl_ray.errors import ConfigError, TensorError
from stl_ray.models import Classifier, module_digest
from stl_ray.notebook.asked import request_of
from stl_ray.notebook.session import Session
from stl_ray.training.defenses.patch_dictionary import normalised

FGSM = {"name": "fgsm", "attack": "fgsm", "dissimilarity": 0.1}
L2PGD = {"name": "l2", "attack": "L2PGD", "engine": "foolbox"}
SQUARE = {"name": "square", "attack": "square", "linf": 8, "options": {"queries": 2}}


@dataclass(frozen=True)
class Noise(Transformation):
    """Draws random numbers, or would."""

    name = "noise"
    randomised = True

    def identity(self) -> dict[str, Any]:
        return {"defense": self.name}

    def purify(self, images: Tensor, *, seeds, exclude=None) -> Purified:
        return Purified.without_solver(images)


class Means(nn.Module):
    """Three classes, by how red, green and blue an image is; with steps it rounds, so that it has no gradient."""

    def __init__(self, steps: int = 0) -> None:
        super().__init__()
        self.layer, self.steps = nn.Linear(3, 3), steps
        nn.init.eye_(self.layer.weight)

    def forward(self, images):
        seen = (images * self.steps).round() if self.steps else images
        return 20 * self.layer(seen.mean((2, 3)))


@pytest.fixture
def model():
    return Means().eval()


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return [generator.integers(60, 190, (side, side, 3), dtype=np.uint8) for side in (8, 10, 8, 10, 9)]


def met(tier: str) -> dict:
    return {"attacks": [{"name": "met", "tier": tier, "attack": "square"}]}


@pytest.mark.parametrize(
    ("keys", "needed"),
    [
        ({}, False),
        ({"attacks": [SQUARE]}, False),
        ({"attacks": [SQUARE, FGSM]}, True),
        ({"attacks": [{**FGSM, "victim": {"defense": "jpeg", "gradient": "none"}}]}, False),
        ({"attacks": [{**FGSM, "victim": {"defense": "jpeg", "gradient": "bpda"}}]}, True),
        ({"tiers": {"attacks": []}}, False),
        ({"tiers": met("T5")}, True),  # the checks differentiate
        ({"tiers": met("T5"), "defenses": []}, False),
        ({"tiers": met("T4"), "defenses": []}, True),
    ],
)
def test_identity_whether_the_gradient_of_the_model_is_needed(keys, needed):
    given = {"defenses": ["jpeg"], "attacks": [], "tiers": None, "sanity": "quick", "seed": 0, **keys}
    assert request_of(**given, device="cpu").needs_gradient == needed


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"attacks": [{**L2PGD, "linf": 8}]}, "^L2PGD: the attack does not support the norm"),
        (
            {"tiers": {"budget": {"linf": 8}, "attacks": [{**L2PGD, "tier": "T4"}]}},
            "^l2: the attack does not support the norm",
        ),
    ],
)
def test_refuses_a_budget_that_is_not_the_attack_s_when_it_is_asked_for(keys, said):
    with pytest.raises(ConfigError, match=said):
        request_of(**{"defenses": [], "attacks": [], "tiers": None, **keys}, sanity="quick", seed=0, device="cpu")


def test_identity_entries_sections_and_defenses_ask_for_the_same():
    jpeg = make_defense("jpeg", {"quality": 50}, {})
    entry = {"defense": "jpeg", "options": {"quality": 50}}
    defenses = [{"name": "entry", **entry}, NamedDefense(name="section", **entry), {"name": "own", "defense": jpeg}]
    tiers = TiersConfig(images=3)
    request = request_of(defenses, [NamedAttack(**FGSM)], tiers, "full", 1, "cpu")
    assert list(request.defenses) == ["none", "entry", "section", "own"] and request.defenses["own"] is jpeg
    assert request.defenses["entry"].identity() == request.defenses["section"].identity() == jpeg.identity()
    assert (request.asked.attacks, request.asked.tiers) == ((NamedAttack(**FGSM),), tiers)


def test_identity_a_set_is_crafted_on_the_model_alone_or_behind_the_defense_of_its_victim(model, images):
    sets = [
        FGSM,
        {**SQUARE, "victim": {"defense": "jpeg", "gradient": "none"}},
        {**FGSM, "name": "noisy", "victim": {"defense": "noise", "gradient": "bpda", "samples": 3}},
    ]
    session = Session.of(model, images, [0] * 5, None, defenses=["jpeg", Noise()], attacks=sets, seed=7)
    alone, jpeg, noisy = session.victims.values()
    assert alone is session.model.victim is jpeg.classifier is noisy.classifier
    assert (jpeg.defense.name, jpeg.gradient, jpeg.samples) == ("jpeg", "none", 1)
    assert (noisy.defense.name, noisy.gradient, noisy.samples, noisy.seed) == ("noise", "bpda", 3, 7)
    assert session.defended["noise"].identity == {
        "defense": {"defense": "noise", "run_seed": 7},
        "classifier": {"model": "Means", "weights": module_digest(model)},
    }


def test_identity_images_of_one_size_are_a_batch_with_their_own_labels_and_ids(model, images):
    labels, ids = [0, 1, 2, 0, 1], list("abcde")
    session = Session.of(model, images, labels, ids, defenses=[], attacks=[], seed=0)
    batches = list(session.batches(session.images.pixels, [4, 3, 2, 1]))
    assert sorted(places for places, *_ in batches) == [[2], [3, 1], [4]]
    for places, pixels, own, names in batches:
        assert (own.tolist(), names) == ([labels[place] for place in places], [ids[place] for place in places])
        for image, place in zip(pixels, places, strict=True):
            assert torch.equal(image, torch.from_numpy(images[place]).permute(2, 0, 1) / 255)


def test_identity_a_classifier_has_its_own_names_and_a_module_numbers(model, images):
    def seen(given):
        return Session.of(given, images, [0] * 5, None, defenses=[], attacks=[], seed=0).model

    named = Classifier(model, architecture="means", class_names=["red", "green", "blue"]).eval()
    assert (seen(named).name, seen(named).class_names) == ("means", ("red", "green", "blue"))
    assert (seen(model).name, seen(model).class_names) == ("Means", ("0", "1", "2"))


def test_refuses_a_label_below_the_first_class(model, images):
    with pytest.raises(TensorError, match=r"^b: the label is no class of the model; expected 0 to 2; got -1"):
        stl_ray.evaluate(model, images[:2], [0, -1], ids=["a", "b"])


def test_a_model_without_a_gradient_will_do_for_queries_and_is_warned_of(images):
    with pytest.warns(UserWarning, match="its gradient|gradient is zero") as caught:
        made = stl_ray.attack(Means(steps=8).eval(), images, [0] * 5, [SQUARE])
    assert caught[0].filename == __file__ and "gradient" in str(made)


def test_certificate_one_radius_for_all_has_the_mean_dissimilarity(model, images):
    item = {**FGSM, "budget": "dataset_mean", "store": "f32"}
    made = stl_ray.attack(model, images, [0] * 5, [item])["fgsm"]
    rows = made.table.to_pylist()
    assert np.mean([row["dissimilarity"] for row in rows]) == pytest.approx(0.1, rel=1e-3)
    assert np.ptp([row["l2"] for row in rows]) < 1e-3 < np.ptp([row["dissimilarity"] for row in rows])
    assert {pixels.dtype.name for pixels in made.pixels} == {"float32"}


def test_identity_an_option_that_only_sounds_like_something_given_stays_an_option(tmp_path, monkeypatch):
    atoms = normalised(
        torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    )
    PatchDictionary(atoms, "these").save(str(tmp_path / "atoms"), {})
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "asked_for.py").write_text(
        "def shifted(classifier: float = 0.1):\n    return lambda images: images * classifier\n"
    )
    entries = [
        {"name": "d3", "defense": "d3", "options": {"load": str(tmp_path / "atoms"), "classifier": "resnet"}},
        {"name": "own", "defense": "asked_for:shifted", "options": {"classifier": 0.5}},
    ]
    request = request_of(entries, [], None, "quick", 0, "cpu")
    assert [item.options.get("classifier") for item in request.asked.defenses] == ["resnet", 0.5]
    assert request.defenses["own"].identity()["options"] == {"classifier": 0.5}


@pytest.mark.parametrize("name", ["robust_classifier", "pixel_deflection"])
def test_refuses_a_classifier_on_another_device_than_the_images(name):
    away = Classifier(Means(), architecture="means", class_names=list("abc")).eval().to("meta")
    entry = {"name": "row", "defense": name, "options": {"classifier": away}}
    with pytest.raises(
        ConfigError, match=r"row.classifier: .*another device .*expected to\('cpu'\) of it first; got meta"
    ):
        request_of([entry], [], None, "quick", 0, "cpu")


def test_identity_a_user_s_own_defense_stands_among_the_others_and_is_looked_at_before(
    model, images, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "asked_own.py").write_text(
        "def halved():\n    return lambda images: images / 2\ndef mixed():\n    return lambda images: images.roll(1, 0)\n"
    )
    entries = [
        {"name": "half", "defense": "asked_own:halved"},
        {"name": "both", "defense": "ensemble", "options": {"of": ["none", "half"]}},
    ]
    found = stl_ray.evaluate(model, images, [0] * 5, defenses=entries, attacks=[FGSM])
    assert {name for name, _ in found.predictions} == {"none", "half", "both"}
    with pytest.raises(TensorError, match="mix: asked_own:mixed: its images change with the other images"):
        stl_ray.evaluate(model, images, [0] * 5, defenses=[{"name": "mix", "defense": "asked_own:mixed"}])
