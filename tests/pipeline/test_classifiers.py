"""Classifiers of an experiment: recipes that are whole, those that need no training, and where a retraining begins."""

from typing import Any

import pytest
import torch

from stl_ray.config import Experiment
from stl_ray.errors import ArtifactError, ConfigError, IncompleteRunError, RunIdentityError
from stl_ray.models import build_classifier, save_classifier
from stl_ray.pipeline import train
from stl_ray.pipeline.classifiers import load_classifier, scored
from stl_ray.pipeline.train.plan import new_classifier, plan
from stl_ray.store import Layout, Storage

JPEG = [{"name": "jpeg", "defense": "jpeg"}, {"name": "mild", "defense": "jpeg", "options": {"quality": 95}}]


def classifier(**keys) -> dict[str, Any]:
    return {"name": "mine", "architecture": "small_cnn", **keys}


@pytest.fixture
def ingested(experiment_of, finished_run, image_tables, crops):
    """Makes an experiment with these classifiers and images of both splits."""

    def make(*classifiers, **sections) -> Experiment:
        own = experiment_of(classifiers=list(classifiers), defenses=JPEG, **sections)
        if not Storage.open(own.root).exists("ingest"):
            for split in ("train", "test"):
                finished_run(own, f"ingest/{split}", *image_tables(crops(6), 4, 2))
        return own

    return make


def test_identity_what_a_recipe_does_not_say_is_said_by_train(experiment_of):
    own = experiment_of(
        classifiers=[
            classifier(name="as-train", recipe={}),
            classifier(name="none-said"),
            classifier(name="own", recipe={"epochs": 3, "adversarial": None}, retrain={"learning_rate": 0.5}),
            classifier(name="given", architecture="mine:make"),
        ],
        train={"epochs": 7, "batch_size": 16, "adversarial": {"linf": 4}, "workers": 2},
    )
    as_train, none_said, one, given = own.classifiers
    assert (as_train.recipe.epochs, as_train.recipe.batch_size, as_train.recipe.adversarial.linf) == (7, 16, 4)
    assert as_train.recipe == none_said.recipe and given.recipe is None is given.retrain
    assert (one.recipe.epochs, one.recipe.batch_size, one.recipe.adversarial) == (3, 16, None)
    # A retraining has the keys of train, not those of the classifier's own first training.
    assert (one.retrain.epochs, one.retrain.learning_rate, one.retrain.start) == (7, 0.5, "scratch")


def test_roundtrip_the_experiment_that_is_kept_is_the_same_experiment(experiment_of):
    own = experiment_of(
        classifiers=[classifier(recipe={"epochs": 3}, retrain={}), classifier(name="given", architecture="mine:make")],
        train={"epochs": 7, "milestones": [0.25, 0.5]},
        project={"splits": ["train"]},
    )
    again = Experiment.model_validate_json(own.model_dump_json())
    assert again == own and again.model_dump_json() == own.model_dump_json()


def test_a_classifier_that_is_used_as_it_is_needs_no_training(ingested, tmp_path):
    network = build_classifier("small_cnn", ["a", "b"], seed=4)
    torch.save(network.backbone.state_dict(), tmp_path / "weights.pth")
    own = ingested(classifier(weights=str(tmp_path / "weights.pth")))
    assert plan(own) == []
    done = train.run(own)
    assert done == {
        "images": 0,
        "quarantined": 0,
        "summary": "no classifier is to be trained: all are used as they are",
    }
    assert not Storage.open(own.root).exists("train")
    loaded = load_classifier(own, "mine", None, ["a", "b"])
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(loaded.classifier.backbone.state_dict()[name], tensor)
    # With a recipe it is trained from these weights, and they are part of what it is.
    (training,) = plan(ingested(classifier(weights=str(tmp_path / "weights.pth"), recipe={})))
    assert training.identity["start"] is not None
    with pytest.raises(IncompleteRunError, match="run `stl-ray train` first"):
        load_classifier(ingested(classifier()), "mine", None, ["a", "b"])


def test_a_function_is_used_as_it_is(ingested, tmp_path, monkeypatch):
    (tmp_path / "somebodies.py").write_text(
        "import torch\n\n\ndef network():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 24, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = ingested(classifier(architecture="somebodies:network"))
    assert plan(own) == [] and [item.name for item in scored(own)] == ["mine"]
    assert load_classifier(own, "mine", None, ["a", "b"]).identity["architecture"] == "somebodies:network"


def test_refuses_to_score_nothing(ingested):
    with pytest.raises(ConfigError, match="that is scored is needed, and all have `scored: false`"):
        scored(ingested(classifier(scored=False)))


def test_identity_a_retraining_begins_with_the_weights_of_the_classifier_that_it_names(ingested):
    own = ingested(classifier(retrain={"start": "mine", "projection": "on_the_fly", "defenses": ["mild"], "epochs": 1}))
    first, retrained = plan(own)
    assert (first.name, retrained.name) == ("mine", "mine-for-mild")
    with pytest.raises(IncompleteRunError, match="train/mine: there is no such classifier"):
        new_classifier(own, retrained)
    network = build_classifier("small_cnn", ["a", "b"], seed=9)
    save_classifier(Layout(own.root).uri(first.folder), network, {})
    for name, tensor in new_classifier(own, retrained).state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    # From scratch it begins as the seed has it.
    (_, anew) = plan(ingested(classifier(retrain={"projection": "on_the_fly", "defenses": ["mild"]})))
    weights = build_classifier("small_cnn", ["a", "b"], seed=own.seed).state_dict()
    for name, tensor in new_classifier(own, anew).state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize(
    "other", [classifier(name="start", architecture="resnet18_small"), classifier(name="start", classes=["b", "a"])]
)
def test_refuses_to_begin_as_another_network_or_one_of_other_classes(ingested, other):
    own = ingested(classifier(retrain={"start": "start", "projection": "on_the_fly"}), other)
    *_, retrained = plan(own)
    classes = list(other.get("classes", ("a", "b")))
    network = build_classifier(other["architecture"], classes, seed=0)
    save_classifier(Layout(own.root).uri(Layout(own.root).classifier("start")), network, {})
    with pytest.raises(ArtifactError, match=r"^start: the classifier to begin with is another network, or has other"):
        new_classifier(own, retrained)


def test_refuses_a_classifier_behind_a_defense_that_it_is_not_retrained_for(ingested):
    own = ingested(classifier(retrain={"defenses": ["mild"]}))
    with pytest.raises(ConfigError, match=r"^mine: the classifier is not retrained for this defense; .* got jpeg"):
        load_classifier(own, "mine", "jpeg", ["a", "b"])
    with pytest.raises(ConfigError, match=r"mien: unknown classifier of this experiment; expected 'mine'\?"):
        load_classifier(own, "mien", None, ["a", "b"])


def test_refuses_a_classifier_that_was_trained_by_other_settings(experiment_of, finished_run, image_tables, crops):
    def made(**keys):
        return experiment_of(
            classifiers=[{"name": "vanilla", "architecture": "small_cnn", **keys}], train={"epochs": 2}
        )

    own, layout = made(), Layout(made().root)
    for split in ("train", "test"):
        finished_run(own, f"ingest/{split}", *image_tables(crops(4), 4))
    (training,) = plan(own)
    network = build_classifier("small_cnn", ["a", "b"], seed=0).eval()
    save_classifier(layout.uri(layout.classifier("vanilla")), network, {"identity": training.identity})
    assert load_classifier(own, "vanilla", None, ["a", "b"]).classifier.architecture == "small_cnn"
    for keys in ({"recipe": {"epochs": 3}}, {"architecture": "cifar_resnet20"}, {"classes": ["a", "b", "c"]}):
        with pytest.raises(RunIdentityError, match="train/vanilla"):
            load_classifier(made(**keys), "vanilla", None, ["a", "b"])


def test_identity_the_folder_of_a_classifier_brings_its_classes(experiment_of, tmp_path):
    save_classifier(str(tmp_path / "there"), build_classifier("small_cnn", ["Cat", "Dog"], seed=0).eval(), {})
    keys = {"name": "given", "architecture": "small_cnn", "weights": str(tmp_path / "there")}
    own = experiment_of(classifiers=[keys])
    assert load_classifier(own, "given", None, ["dog", "cat"]).classes.tolist() == [1, 0]
    with pytest.raises(ConfigError, match=r"given: .*circle"):
        load_classifier(own, "given", None, ["circle", "square"])


FUNCTION = """
import torch
def make():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1728, 2))
    network.load_state_dict(torch.load(WEIGHTS))
    return network
"""


def test_identity_the_weights_that_a_function_reads_are_what_its_training_begins_with(
    experiment_of, finished_run, image_tables, crops, tmp_path, monkeypatch
):
    weights = tmp_path / "weights.pth"
    (tmp_path / "reads.py").write_text(FUNCTION.replace("WEIGHTS", repr(str(weights))))
    monkeypatch.syspath_prepend(tmp_path)
    own = experiment_of(classifiers=[{"name": "own", "architecture": "reads:make", "recipe": {}}])
    for split in ("train", "test"):
        finished_run(own, f"ingest/{split}", *image_tables(crops(4), 4))
    found = []
    for value in (0.0, 1.0):
        torch.save({"1.weight": torch.full((2, 1728), value), "1.bias": torch.zeros(2)}, weights)
        found.append(plan(own)[0].identity["start"])
    assert found[0] != found[1]
