"""What `stl_ray.evaluate` and `stl_ray.attack` take, refuse, leave alone and show."""

import numpy as np
import pytest
import torch
from torch import nn

import stl_ray
from stl_ray.csc import Dictionary
from stl_ray.defenses import make_defense
from stl_ray.defenses.magnet_autoencoder import Autoencoder, MagnetAutoencoder
from stl_ray.errors import ConfigError, GradientError, StlRayError, TensorError
from stl_ray.models import build_classifier, module_digest, seeded
from stl_ray.space import QuasiNaturalSpace
from stl_ray.statistics import wilson

FGSM = {"name": "fgsm", "attack": "fgsm", "dissimilarity": 0.1}


class Linear(nn.Module):
    """Three classes: how red, green and blue an image is."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3, bias=False)
        nn.init.eye_(self.layer.weight)

    def forward(self, images):
        return 20 * self.layer(images.mean((2, 3)))


@pytest.fixture
def model():
    return Linear().eval()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(60, 190, (12, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels(images):
    answers = Linear()(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).argmax(1)
    answers[0] = (answers[0] + 1) % 3
    return answers


@pytest.fixture(scope="module")
def result(images, labels):
    tiers = {"budget": {"linf": 1}, "attacks": [{"name": "bpda", "tier": "T3", "attack": "fgsm"}]}
    return stl_ray.evaluate(Linear().eval(), images, labels, defenses=["jpeg"], attacks=[FGSM], tiers=tiers)


def test_certificate_frames_say_what_the_predictions_are(result, labels, images):
    scores, predictions = result.to_pandas(), result.to_pandas("predictions")
    assert len(scores) == 4 and len(predictions) == 4 * len(images)
    for row in scores.to_dict("records"):
        own = predictions[(predictions.defense == row["defense"]) & (predictions.attack == row["attack"])]
        correct = int((own.prediction == own.label).sum())
        assert (row["correct"], row["accuracy"], row["low"], row["high"]) == (correct, *wilson(correct, len(images)))
    clean = predictions[(predictions.defense == "none") & (predictions.attack == "clean")]
    assert (clean.label.to_numpy() == labels.numpy()).all() and (clean.prediction != clean.label).sum() == 1
    compared = {(c["defense"], c["attack"]): c["versus_none"] for c in result.scores["cells"]}
    for row in scores[scores.defense == "jpeg"].to_dict("records"):
        own = compared["jpeg", row["attack"]]
        names = ("difference", "difference_low", "difference_high", "p", "p_adjusted")
        assert [row[name] for name in names] == [own[name.removeprefix("difference_")] for name in names]
    assert scores[scores.defense == "none"].difference.isna().all() and "setting" not in scores
    assert (predictions.prediction_float == predictions.prediction).any()
    steps, verdicts = result.to_pandas("tiers"), result.to_pandas("verdicts")
    assert set(steps.attack) == {"clean", "bpda", "sanity checks"} and set(verdicts.attack) == {"clean", "bpda"}
    with pytest.raises(ConfigError, match="unknown table"):
        result.to_pandas("score")


def test_identity_it_is_shown_with_intervals_worst_case_and_what_voids_it(result):
    text, page = str(result), result._repr_html_()
    for shown in (text, page):
        assert "Worst case" in shown and "H14" in shown and "not a claim of robustness" in shown
        assert "[95 % Wilson interval]" in shown and "FGSM" in shown
    assert "data:image/png;base64," in page
    (axes,) = result.plot().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["Clean", "FGSM", "worst case"]


def test_identity_adversarial_images_are_within_the_budget_and_shown(model, images, labels):
    made = stl_ray.attack(model, images, labels, [{"name": "pgd", "attack": "pgd", "linf": 8}])
    change = (made["pgd"].images - torch.from_numpy(images).permute(0, 3, 1, 2) / 255).abs().amax()
    assert float(change) == pytest.approx(8 / 255)
    assert list(made) == ["pgd"] and len(made.to_pandas()) == len(images)
    assert "12" in str(made) and "<table>" in made._repr_html_()


def test_invariant_the_model_is_left_as_it_was(model, images, labels):
    model.layer.weight.grad = torch.ones(3, 3)
    before = module_digest(model)
    stl_ray.evaluate(model, images, labels, defenses=["jpeg"], attacks=[FGSM])
    assert module_digest(model) == before and (model.layer.weight.grad == 1).all()
    assert model.layer.weight.requires_grad and not model.training


def test_invariant_nothing_is_shown_where_there_is_no_terminal(model, images, labels, capfd):
    stl_ray.evaluate(model, images, labels)
    assert capfd.readouterr() == ("", "")


def test_identity_a_terminal_shows_a_bar_to_its_end_unless_it_is_not_wanted(model, images, labels, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stl_ray.evaluate(model, images, labels, defenses=["jpeg"], attacks=[FGSM])
    said = capfd.readouterr()
    assert said.out == "" and "jpeg on fgsm" in said.err and "60/60" in said.err  # one set, and two defenses on two
    stl_ray.evaluate(model, images, labels, defenses=["jpeg"], attacks=[FGSM], progress=False)
    assert capfd.readouterr() == ("", "")


def test_identity_spaces_come_as_objects_and_paths(model, images, labels, tmp_path):
    kernels = np.random.default_rng(0).standard_normal((5, 5, 3, 4)).astype(np.float32)
    kernels /= np.sqrt((kernels**2).sum(axis=(0, 1, 2)))
    file = tmp_path / "4_p5_lm0.2.npy"
    np.save(file, kernels)
    space = QuasiNaturalSpace.from_dictionary(Dictionary.from_reference(str(file)))
    space.save(str(tmp_path / "spaces" / "authors"))
    given = {"object": space, "file": file, "folder": str(tmp_path / "spaces" / "authors"), "root": str(tmp_path)}
    entries = [{"name": name, "defense": "stl", "options": {"space": place}} for name, place in given.items()]
    found = stl_ray.evaluate(model, images, labels, defenses=entries).predictions
    for name in given:
        assert found[name, "clean"] == found["object", "clean"]


def test_identity_the_classifier_of_a_map_comes_as_an_object(model, images, labels):
    looking = build_classifier("small_cnn", ["a", "b"], seed=0).eval()
    options = {"classifier": looking, "deflections": 20}
    entries = [{"name": "pd", "defense": "pixel_deflection", "options": options}, make_defense("jpeg", {}, {})]
    found = stl_ray.evaluate(model, images, labels, defenses=entries).predictions
    assert len(found["pd", "clean"]) == len(images)


def test_identity_a_float_off_the_grid_is_warned_of_and_said(model, images, labels):
    with pytest.warns(UserWarning, match="12 of 12 images were not on the 8-bit grid") as caught:
        result = stl_ray.evaluate(model, images / 255 * 0.999, labels)
    assert caught[0].filename == __file__
    assert "not on the 8-bit grid" in str(result)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"defenses": ["jpge"]}, "jpge: unknown defense; expected 'jpeg'?"),
        ({"defenses": "jpeg"}, "defenses: not a list"),
        ({"defenses": ["none"]}, "'none' is taken"),
        ({"defenses": ["jpeg", make_defense("jpeg", {}, {})]}, "names that differ"),
        ({"defenses": ["stl"]}, "stl: the defense needs a space"),
        ({"defenses": [{"name": "a", "defense": "jpeg", "options": {"space": "x"}}]}, "jpeg.space: unknown option"),
        ({"defenses": [{"name": "a", "defense": "stl", "options": {"space": 3}}]}, "a.space: not a space"),
        ({"defenses": ["pixel_deflection"]}, "pixel_deflection: the defense needs a classifier"),
        (
            {"defenses": [{"name": "a", "defense": "pixel_deflection", "options": {"classifier": "mine"}}]},
            "a.classifier: not a classifier; expected a stl_ray.models.Classifier in eval mode; got str",
        ),
        ({"attacks": ["fgsm"]}, "attacks.0: not an entry"),
        ({"attacks": [{"name": "a", "attack": "fgsm", "lnf": 8}]}, r"attacks.0.lnf: unknown key; expected 'linf'\?"),
        ({"attacks": [{"name": "a", "attack": "fgsm"}]}, "one of dissimilarity, l2 and linf is needed"),
        ({"attacks": [{"name": "a", "attack": "uap", "linf": 8}]}, "a: one vector for all images"),
        ({"attacks": [{**FGSM, "victim": {"classifier": "other"}}]}, "fgsm.victim: another classifier"),
        ({"attacks": [{**FGSM, "victim": {"defense": "jepg"}}], "defenses": ["jpeg"]}, "jepg: unknown defense"),
        ({"attacks": [{**FGSM, "name": "clean"}]}, "'clean' is taken"),
        (
            {"attacks": [FGSM], "tiers": {"attacks": [{"name": "FGSM", "tier": "T5", "attack": "square"}]}},
            "names that differ",
        ),
        ({"tiers": {"attacks": [{"name": "t", "tier": "T2", "attack": "pgd"}]}}, "t: T2 transfers from another"),
        ({"tiers": {"substitute": "runs/other"}}, "tiers.substitute: a substitute is another experiment"),
        ({"tiers": {"attack": []}}, r"tiers.attack: unknown key; expected 'attacks'\?"),
        ({"tiers": {"attacks": [{"name": "t", "tier": "T4", "attack": "deepfoul"}]}}, "deepfoul: unknown attack"),
        ({"sanity": "none"}, "sanity: wrong value"),
        ({"seed": -1}, "seed: wrong value"),
        ({"attacks": [{**FGSM, "options": {"steps": object()}}]}, "not plain values"),
    ],
)
def test_refuses_what_it_cannot_do_before_any_work(model, images, labels, keys, said):
    with pytest.raises(ConfigError, match=said):
        stl_ray.evaluate(model, images, labels, **keys)


class Answers(nn.Module):
    """Answers as it is told to."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer(images.mean((2, 3)))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Answers(lambda means: (means, means)).eval(), "not the logits of its classes.*tuple of"),
        (Answers(lambda means: means[:, :, None]).eval(), "not the logits of its classes"),
        (Answers(lambda means: means * torch.nan).eval(), "logits are not finite"),
        (Answers(lambda means: means[:, 5]).eval(), "Answers: the model fails on"),
        (Answers(lambda means: means - means.mean(0)).eval(), "answers change with the other images"),
        (Answers(lambda means: means[:, :2]).eval(), "the label is no class of the model; expected 0 to 1; got 2"),
        (Answers(lambda means: means.detach()).eval(), "gradient is cut off"),
        (Linear(), "Linear: it is in training mode"),
        (nn.Sequential(Linear().eval(), nn.Dropout()).eval().append(nn.Dropout()), "its module 2 is in training mode"),
        (lambda images: images, "model: not a model.*got function"),
    ],
)
def test_refuses_models_of_no_use(broken, images, labels, said):
    with pytest.raises(StlRayError, match=said):
        stl_ray.evaluate(broken, images, labels, attacks=[FGSM])


def test_refuses_a_victim_without_the_gradient_before_any_work(model, images, labels):
    with pytest.raises(
        GradientError, match="jpeg: no such gradient of the defense; expected one of bpda, stand_in; got exact"
    ):
        stl_ray.evaluate(model, images, labels, defenses=["jpeg"], attacks=[{**FGSM, "victim": {"defense": "jpeg"}}])


def test_refuses_an_attack_of_nothing(model, images, labels):
    with pytest.raises(ConfigError, match="attacks: nothing to craft"):
        stl_ray.attack(model, images, labels, [])
    with pytest.raises(TensorError, match="no images"):
        stl_ray.attack(model, [], [], [FGSM])


@pytest.fixture
def magnet(tmp_path) -> dict:
    """MagNet with an untrained autoencoder, whose detectors refuse a fifth of the clean images each."""
    MagnetAutoencoder.of(seeded(lambda: Autoencoder(3), 0).state_dict()).save(str(tmp_path / "magnet"), {})
    options = {"load": str(tmp_path / "magnet"), "error_drop_rate": 0.2, "jsd_drop_rate": 0.2}
    return {"name": "magnet", "defense": "magnet", "options": options}


def test_identity_a_detector_is_calibrated_on_the_training_images(model, images, labels, magnet):
    training = np.random.default_rng(1).integers(60, 190, (60, 8, 8, 3), dtype=np.uint8)
    aware = {**FGSM, "name": "aware", "victim": {"defense": "magnet"}}
    tiers = {"budget": {"linf": 8}, "attacks": [{"name": "exact", "tier": "T4", "attack": "fgsm"}]}
    arguments = {"defenses": [magnet], "attacks": [FGSM, aware], "seed": 3, "progress": False}
    result = stl_ray.evaluate(model, images, labels, training=(training, np.zeros(60, int)), tiers=tiers, **arguments)
    scores, predictions = result.to_pandas(), result.to_pandas("predictions")
    own = scores[scores.defense == "magnet"].set_index("attack")
    assert own.refused.between(0, 1).all() and scores[scores.defense == "none"].refused.isna().all()
    assert np.isnan(own.auroc["clean"]) and own.auroc["fgsm"] <= own.auroc_high["fgsm"]
    found = predictions[(predictions.defense == "magnet") & (predictions.attack == "fgsm")]
    assert own.refused["fgsm"] == found.rejected.mean() and (found.rejected == (found.score > 1)).all()
    assert own.correct["fgsm"] == (found.rejected | (found.prediction == found.label)).sum()
    assert not predictions[predictions.defense == "none"].rejected.any()
    assert not any("among the training images" in remark for remark in result.remarks)
    assert "What detectors refused" in repr(result) and "right when attacked" in repr(result)
    crafted = stl_ray.attack(
        model, images, labels, arguments["attacks"], defenses=[magnet], seed=3, progress=False,
        training=(training, np.zeros(60, int), [str(number) for number in range(60)]),
    )  # fmt: skip
    assert crafted["aware"].table.equals(result.adversarial["aware"].table)


def test_refuses_a_detector_without_training_images(model, images, labels, magnet):
    with pytest.raises(
        ConfigError, match=r"calibrated on training images; expected training=\(images, labels\)"
    ) as caught:
        stl_ray.evaluate(model, images, labels, defenses=[magnet])
    assert caught.value.item == "magnet" and "'refuse': False" in str(caught.value)
    for training in (images, (images,), [images, labels]):
        with pytest.raises(TensorError, match="not training images"):
            stl_ray.evaluate(model, images, labels, defenses=[magnet], training=training)
    with pytest.raises(TensorError, match="one size"):
        sizes = ([*images, *(image[:6] for image in images)] * 4, np.zeros(96, int))
        stl_ray.evaluate(model, images, labels, defenses=[magnet], training=sizes)
    with pytest.warns(UserWarning, match="2 of .* images are among the training images"):
        shared = (np.concatenate([255 - images.repeat(5, 0)[:58], images[:2]]), np.zeros(60, int))
        stl_ray.evaluate(model, images, labels, defenses=[magnet], training=shared, progress=False)
    alone = {**magnet, "options": {**magnet["options"], "refuse": False}}
    result = stl_ray.evaluate(model, images, labels, defenses=[alone], progress=False)
    assert {cell["detection"] for cell in result.scores["cells"]} == {None}
    ensemble = {"name": "both", "defense": "ensemble", "options": {"of": ["none", "magnet"]}}
    with pytest.raises(ConfigError, match="a member of an ensemble cannot refuse images"):
        stl_ray.evaluate(model, images, labels, defenses=[magnet, ensemble], training=(images, labels))
