"""The other experiment of transfer attacks: which of its classifiers stands in the place of which."""

import json

import pytest

from stl_ray.errors import ArtifactError, ConfigError, IncompleteRunError
from stl_ray.models import build_classifier, save_classifier
from stl_ray.pipeline.defended import load_blocks
from stl_ray.pipeline.evaluate.substitute import substitutes_of
from stl_ray.store import Layout, Storage

NAMES = ("a", "b")


@pytest.fixture
def made(experiment_of, tmp_path):
    """Makes an experiment with trained classifiers of these names; keys of them all, and sections."""

    def make(folder: str, *classifiers: str, seed: int = 0, keys=None, **sections):
        own = experiment_of(
            root=str(tmp_path / folder),
            classifiers=[{"name": name, "architecture": "small_cnn", **(keys or {})} for name in classifiers],
            **{"defenses": [{"name": "jpeg", "defense": "jpeg"}], **sections},
        )
        layout = Layout(own.root)
        for number, item in enumerate(own.classifiers):
            for kind, behind in enumerate((None, *(d.name for d in own.defenses if item.retrained_for(d.name)))):
                network = build_classifier("small_cnn", list(item.classes or NAMES), seed=seed + number + 100 * kind)
                save_classifier(layout.uri(layout.classifier(item.name, behind)), network, {})
        Storage.open(own.root).write(Layout.experiment, own.model_dump_json().encode())
        return own

    return make


def chosen(own, other) -> dict[str, str]:
    """By block, the digest of the substitute's classifier behind JPEG."""
    tiers = own.evaluate.tiers.model_copy(update={"substitute": other.root})
    own = own.model_copy(update={"evaluate": own.evaluate.model_copy(update={"tiers": tiers})})
    found = substitutes_of(own, load_blocks(own, NAMES, "cpu"), NAMES, "cpu")
    assert all(set(defended) == {"none", "jpeg"} for defended in found.values())
    return {name: defended["jpeg"].identity["classifier"] for name, defended in found.items()}


def digest(own, name: str, defense: str | None = None) -> str:
    storage = Storage.open(own.root).below(Layout(own.root).classifier(name, defense))
    return str(storage.read_json("model.json")["digest"])


def test_identity_the_classifier_of_the_same_name_or_the_only_one(made):
    own = made("own", "first", "second")
    same = made("same", "second", "first", "third", seed=5)
    assert chosen(own, same) == {name: digest(same, name) for name in ("first", "second")}
    only = made("only", "another", seed=5)
    assert chosen(own, only) == dict.fromkeys(("first", "second"), digest(only, "another"))
    retrained = made("retrained", "first", "second", seed=5, keys={"retrain": {}})
    assert chosen(own, retrained) == {name: digest(retrained, name, "jpeg") for name in ("first", "second")}
    assert substitutes_of(own, load_blocks(own, NAMES, "cpu"), NAMES, "cpu") == {}


def test_refuses_a_substitute_without_a_classifier_in_the_place_of_one(made):
    own = made("own", "first")
    with pytest.raises(ConfigError, match=r"^first: the substitute experiment has no classifier .* got one, two"):
        chosen(own, made("others", "one", "two", seed=5))
    with pytest.raises(ConfigError, match=r"^first: the substitute experiment has no classifier .* got none"):
        chosen(own, made("none", "first", seed=5, keys={"scored": False}))


@pytest.mark.parametrize("classes", [["b", "a"], ["a", "b", "c"]])
def test_refuses_a_substitute_of_other_classes(made, classes):
    own = made("own", "first")
    with pytest.raises(ConfigError, match=r"no classifier in the place of this one, with its classes; .* got first"):
        chosen(own, made("others", "first", seed=5, keys={"classes": classes}))


def test_refuses_a_substitute_without_a_defense(made):
    mild = [{"name": "mild", "defense": "jpeg"}]
    with pytest.raises(ConfigError, match=r"^jpeg: unknown defense of the substitute experiment; expected one of mild"):
        chosen(made("own", "first"), made("others", "first", seed=5, defenses=mild))


def test_refuses_a_substitute_that_is_not_there_or_of_another_version(made):
    own, other = made("own", "first"), made("other", "first", seed=5)
    storage = Storage.open(other.root)
    old = json.loads(storage.read(Layout.experiment))
    storage.write_json(Layout.experiment, {**old, "train": {**old["train"], "classifier": "small_cnn"}})
    with pytest.raises(ArtifactError, match=r"experiment\.json: .*version \(train\.classifier: "):
        chosen(own, other)
    with pytest.raises(IncompleteRunError, match="there is no finished experiment"):
        chosen(own, own.model_copy(update={"root": f"{own.root}-nowhere"}))
