import json
import re

import pytest
import yaml

from stl_ray.config import bundled, load_experiment
from stl_ray.errors import ConfigError

MINIMAL = {
    "name": "test",
    "root": "runs/test",
    "ingest": {"train": {"format": "photographs"}, "test": {"format": "photographs"}},
    "spaces": [{"name": "natural"}],
}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(MINIMAL))
    return str(file)


def test_roundtrip_overrides(path):
    experiment = load_experiment(
        path, ["spaces.0.clusters=7", "train.learning_rate=1e-3", "ray.actors=2", "project.splits=[train, test]"]
    )
    assert experiment.spaces[0].clusters == 7
    assert experiment.train.learning_rate == 1e-3
    assert experiment.ray.actors == 2
    assert experiment.project.splits == ("train", "test")


def test_roundtrip_overrides_of_list_entries(tmp_path):
    sets = [{"name": "a", "attack": "fgsm", "dissimilarity": 0.08}]
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump({**MINIMAL, "attack": {"sets": sets}}))
    experiment = load_experiment(str(file), ["attack.sets.0.dissimilarity=0.02"])
    assert experiment.attack.sets[0].dissimilarity == 0.02
    with pytest.raises(
        ConfigError, match=r"attack\.sets\.1\.name=b: no such entry of the list; expected 0 to 0; got 1"
    ):
        load_experiment(str(file), ["attack.sets.1.name=b"])
    with pytest.raises(ConfigError, match=r"no such entry of the list; expected a list in the file; got 0"):
        load_experiment(str(file), ["classifiers.0.recipe.epochs=3"])


def test_roundtrip_overrides_below_an_entry_that_says_nothing_of_them(tmp_path):
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump({**MINIMAL, "classifiers": [{"name": "a", "architecture": "small_cnn"}]}))
    overrides = [
        "classifiers.0.recipe.epochs=3",
        "classifiers.0.retrain.defenses=[jpeg]",
        "classifiers.0.classes=[b, c]",
    ]
    (classifier,) = load_experiment(str(file), overrides).classifiers
    assert (classifier.recipe.epochs, classifier.retrain.epochs, classifier.retrain.defenses) == (3, 30, ("jpeg",))
    assert classifier.classes == ("b", "c")
    (classifier,) = load_experiment(str(file), ["classifiers.0.classes=imagenet"]).classifiers
    assert classifier.classes == "imagenet"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("spaces.0.cluster=4", r"spaces\.0\.cluster: unknown key; expected 'clusters'\?"),
        ("trian.epochs=4", r"trian: unknown key; expected 'train'\?"),
        ("ingest.train.formt=folder", r"ingest\.train\.formt: unknown key; expected 'format'\?"),
        ("spaces.0.autoencoder.zzz=1", r"spaces\.0\.autoencoder\.zzz: unknown key; expected one of batch_size, epochs"),
        ("spaces.0.clusters=four", r"spaces\.0\.clusters: wrong value; expected a valid integer; got 'four'"),
        ("spaces.0.clusters=2.5", r"spaces\.0\.clusters: wrong value; expected a valid integer; got 2\.5"),
        ("spaces.0.clusters=0", r"spaces\.0\.clusters: wrong value; expected greater than or equal to 1; got 0"),
        ("train.flip=1", r"train\.flip: wrong value; expected a valid boolean; got 1"),
        ("fit.clusters=4", r"fit: unknown key"),
        ("solver.accuracy=best", r"solver\.accuracy: unknown key; expected one of method"),
        ("root=null", r"root: wrong value; expected a valid string; got None"),
        ("name=a/b", r"name: not a name; .*got 'a/b'"),
        ("seed", r"seed: not an override; expected key=value"),
        ("name.first=x", r"name\.first=x: a value has no keys below it; expected a section; got test"),
        ("train.learning_rate=.inf", r"train\.learning_rate: wrong value; expected a finite number"),
        ("project.splits=[", r"project\.splits=\[: not YAML"),
    ],
)
def test_refuses_a_wrong_key_by_its_path(path, override, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        load_experiment(path, [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ingest.train.path=x"], "ingest.train: photographs takes no path"),
        (["ingest.test.format=folder"], "ingest.test: photographs takes no path; every other format needs one"),
        (["train.epochs=0"], "train.epochs: wrong value; expected greater than or equal to 1; got 0"),
        (
            ["classifiers=[{name: a, architecture: small_cnn}]", "train.workers=9", "train.batch_size=8"],
            "batch_size is over all workers, so it must be at least their number; got 8 of a for 9 workers",
        ),
        (
            ["classifiers=[{name: a, architecture: 'm:f', retrain: {batch_size: 2}}]", "train.workers=3"],
            "at least their number; got 2 of a for 3 workers",
        ),
        (
            [
                "classifiers=[{name: a, architecture: small_cnn}, {name: b, architecture: small_cnn, retrain: {adversarial: {linf: 8}}}]",
                "train.mixup=0.2",
            ],
            "retrain of b, with the keys of train: mixup and cutmix give images two classes",
        ),
        (
            ["classifiers=[{name: a, architecture: small_cnn, recipe: {adversarial: {linf: 8}}}]", "train.cutmix=1.0"],
            "the recipe of a, with the keys of train: mixup and cutmix give images two classes",
        ),
        (
            [
                "classifiers=[{name: a, architecture: small_cnn, retrain: {}}]",
                "defenses=[{name: jpeg, defense: jpeg}]",
                "project.splits=[test]",
            ],
            "classifiers that are retrained need project.splits to contain train",
        ),
        (["classifiers=[{name: Scratch, architecture: small_cnn}]"], "'scratch' is the start of a retraining"),
        (
            ["classifiers=[{name: a, architecture: small_cnn}, {name: A, architecture: small_cnn}]"],
            "names must differ, and not in case alone; got a, A",
        ),
        (["defenses=[{name: none, defense: jpeg}]"], "'none' is the undefended row"),
        (["project.splits=[train, train]"], "project.splits names a split twice"),
        (["ingest.size=16", "spaces.0.dictionary.size=17"], "spaces.0.dictionary.size, the filter's side, is larger"),
        (["root=s3://key:hidden@bucket/x"], "root: credentials in a URI end up in logs"),
        (["root=''"], "root: an empty place; expected a path, or a URI"),
        (
            ["defenses=[{name: a, defense: jpeg}, {name: a, defense: stl}]"],
            "names must differ, and not in case alone; got a, a",
        ),
        (
            ["defenses=[{name: STL, defense: jpeg}, {name: stl, defense: stl}]"],
            "names must differ, and not in case alone; got STL, stl",
        ),
        (["defenses=[{name: None, defense: jpeg}]"], "'none' is the undefended row"),
        (["attack.sets=[{name: clean, attack: fgsm, dissimilarity: 0.1}]"], "'clean' is taken"),
        (["attack.sets=[{name: Clean, attack: fgsm, dissimilarity: 0.1}]"], "'clean' is taken"),
        (["evaluate.tiers.attacks=[{name: BIM-0.03, tier: T3, attack: pgd}]"], "names that no attack set has"),
    ],
)
def test_refuses_impossible_combinations(path, overrides, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_experiment(path, overrides)


@pytest.mark.parametrize(
    "name", ["", " a", "a b", "a/b", "..", "a\nb", "a\n", "_a", "Ba$$in", "猫", "é", "a\x1b[1m", "x" * 101]
)
def test_refuses_names_that_cannot_be_a_part_of_a_path(path, name):
    with pytest.raises(ConfigError, match=r"name: not a name; expected 1 to 100 ASCII letters, digits, "):
        load_experiment(path, [f"name={json.dumps(name)}"])
    assert load_experiment(path, [f"name={'x' * 100}"]).name == "x" * 100


def test_relative_paths_become_absolute_and_uris_stay(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    overrides = [
        "ingest.train={format: folder, path: data/train}",
        "classifiers=[{name: a, architecture: small_cnn, weights: 'file:///w.safetensors', classes: names.txt}]",
    ]
    overrides.append("ingest.test={format: folder, path: 's3://bucket/test/?endpoint_override=host:1'}")
    experiment = load_experiment(path, overrides)
    assert experiment.root == str(tmp_path / "runs" / "test")
    assert experiment.ingest.train.path == str(tmp_path / "data" / "train")
    assert experiment.classifiers[0].weights == "/w.safetensors"
    assert experiment.classifiers[0].classes == str(tmp_path / "names.txt")
    assert experiment.ingest.test.path == "s3://bucket/test?endpoint_override=host:1"


def test_refuses_several_wrong_keys_at_once(path):
    with pytest.raises(ConfigError, match=r"2 keys are wrong:\n  seed: .*\n  nme: unknown key; expected 'name'\?"):
        load_experiment(path, ["seed=-1", "nme=x"])


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "not YAML"), ("- a\n- b", "expected keys and values; got list"), ("", "got NoneType")],
)
def test_refuses_files_that_are_no_configuration(tmp_path, content, message):
    file = tmp_path / "experiment.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_experiment(str(file))


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot read the configuration"):
        load_experiment(str(tmp_path / "absent.yaml"))


def test_refuses_unknown_bundled_names():
    with pytest.raises(ConfigError, match=r"nothing: unknown bundled configuration; expected one of cifar10, "):
        bundled("nothing")


def test_identity_an_entry_of_a_list_that_the_file_leaves_out_is_the_defaults(path):
    experiment = load_experiment(path, ["attack.sets.2.dissimilarity=0.05"])
    assert [item.dissimilarity for item in experiment.attack.sets] == [0.08, 0.04, 0.05]


def test_what_is_not_listed_is_not_there(path):
    with pytest.raises(ConfigError, match=r"quality=5: no such entry of the list; expected a list in the file"):
        load_experiment(path, ["defenses.0.options.quality=5"])
    assert load_experiment(path).defenses == load_experiment(path).classifiers == ()
    assert load_experiment(path, ["spaces=[]"]).spaces == ()
