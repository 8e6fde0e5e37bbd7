"""`stl-ray init`: every configuration that it can write is one that its jobs take."""

import io
from pathlib import Path

import pytest
import yaml

from stl_ray.cli import main
from stl_ray.cli.init import KINDS
from stl_ray.config import bundled, load_experiment
from stl_ray.config.help import JOBS
from stl_ray.pipeline.preflight import preflight

OWN = ["my-classifier", "sweep"]
MODULE = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 2))\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of the test's, in which the command is given and Python finds `init_nets`."""
    (tmp_path / "init_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _written(*arguments, output="my.yaml"):
    assert main(["init", *arguments, "--output", output]) == 0
    experiment = load_experiment(output)
    preflight(experiment, *KINDS[arguments[0]].jobs)
    return experiment


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_valid_without_a_flag(kind, capsys, here):
    assert main(["init", kind]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{here}/{kind}.yaml is written")
    assert said[1:-1] == [f"  stl-ray {job} {kind}.yaml" for job in KINDS[kind].jobs]
    preflight(load_experiment(f"{kind}.yaml"), *KINDS[kind].jobs)


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("space", [[], ["--space", "4_p5_lm0.2.npy"], ["--space", "runs/other"]])
@pytest.mark.parametrize(
    ("classifier", "weights", "classes"),
    [
        (["init_nets:make"], None, None),
        (["init_nets:make", "--weights", "w.safetensors"], "w.safetensors", None),
        (["torchvision:resnet18"], "ResNet18_Weights.IMAGENET1K_V1", "imagenet"),
        (["torchvision:vgg11", "--weights", "w.pth"], "w.pth", None),
        (["small_cnn", "--weights", "w.pth", "--size", "32"], "w.pth", None),
    ],
)
def test_every_answer_is_in_the_file(kind, space, classifier, weights, classes, here):
    experiment = _written(kind, "--classifier", *classifier, "--images", "photographs here", *space)
    (config,) = experiment.classifiers
    assert config.architecture == classifier[0] and config.classes == classes and not config.trained
    assert config.weights in (weights, f"{here}/{weights}")
    assert experiment.ingest.test.path == f"{here}/photographs here" and experiment.ingest.train is None
    assert experiment.ingest.size == (
        32 if "--size" in classifier else 224 if ":" in classifier[0][5:] and "init" not in classifier[0] else None
    )
    assert [item.load for item in experiment.spaces] == [f"{here}/{place}" for place in space[1:]]
    assert {item.defense for item in experiment.defenses} == ({"jpeg", "stl"} if space else {"jpeg"})
    assert (len(experiment.defenses) > 2) is (kind == "sweep")


def test_timm_has_the_weights_that_it_publishes():
    pytest.importorskip("timm")
    (config,) = _written("my-classifier", "--classifier", "timm:resnet18").classifiers
    assert (config.weights, config.classes) == ("pretrained", "imagenet")


@pytest.mark.parametrize("images", ["a # b: {c}", "it's", "", "a\\b", "null", "猫", "0x10"])
def test_roundtrip_any_place_of_images(images, here):
    experiment = _written("my-classifier", "--classifier", "init_nets:make", "--images", images or ".")
    assert experiment.ingest.test.path == str(here / images)


def test_the_format_is_that_of_the_files(here):
    (here / "rows").mkdir()
    (here / "rows" / "test-0.parquet").touch()
    for images, expected in (
        ("rows", "parquet"),
        ("test-*.parquet", "parquet"),
        ("s3://b/x.tar", "tar"),
        (".", "folder"),
    ):
        experiment = _written("sweep", "--images", images, output=f"{expected}-{len(images)}.yaml")
        assert experiment.ingest.test.format == expected


@pytest.mark.parametrize("kind", ["cifar10", "imagenet"])
def test_identity_the_papers_experiments_are_the_bundled_ones(kind, here):
    shipped = load_experiment(bundled(kind))
    assert _written(kind, output="same.yaml") == shipped
    (here / "my images").mkdir()
    moved = _written(kind, "--images", "my images")
    below = {"cifar10": ("", ""), "imagenet": ("/train", "/val")}[kind]
    assert [source.path for source in moved.ingest.sources.values()] == [f"{here}/my images{split}" for split in below]
    assert moved.model_copy(update={"ingest": shipped.ingest}) == shipped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "init: no kind of configuration is given; expected one of my-classifier, sweep, cifar10, imagenet"),
        (["my-clasifier"], "my-clasifier: unknown kind of configuration; expected 'my-classifier'?"),
        (["cifar10", "--size", "32"], "--size: not of this kind; expected of cifar10 --images"),
        (["sweep", "--size", "big"], "size: not a number of pixels; expected such as 224; got big"),
        (["sweep", "--size", "3"], "ingest.size: wrong value; expected greater than or equal to 8; got 3"),
        (["sweep", "--classifier", "no_such_module:make"], "no_such_module cannot be imported"),
        (["sweep", "--classifier", "torchvision:resnet5"], "torchvision:resnet5: unknown classifier of torchvision"),
        (["sweep", "--classifier", "small_cnn"], "ingest.train: there are no training images for the classifier mine;"),
        (["sweep", "--images", "s3://key:hidden@bucket/x"], "credentials in a URI"),
        (["sweep", "--output", "s3://bucket/x.yaml"], "a disk only"),
    ],
)
def test_refuses_what_would_be_no_configuration_and_writes_nothing(arguments, message, capsys, here):
    assert main(["init", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(here.rglob("*.yaml"))


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_to_overwrite_a_file(kind, capsys, here):
    (here / "my.yaml").write_text("mine")
    assert main(["init", kind, "--output", "my.yaml"]) == 2
    assert f"{here}/my.yaml: is there already, and nothing is overwritten" in capsys.readouterr().err
    assert (here / "my.yaml").read_text() == "mine"


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_asks_on_a_terminal_with_a_default_for_each_question(monkeypatch, capsys, here):
    monkeypatch.setattr("sys.stdin", _Terminal("\ninit_nets:make\n\npictures\n32\n\n"))
    assert main(["init"]) == 0
    said = capsys.readouterr().out
    assert "kind [my-classifier]: " in said and "[torchvision:resnet50]: " in said and "[data/test]: " in said
    experiment = load_experiment("my-classifier.yaml")
    (config,) = experiment.classifiers
    assert (config.architecture, config.weights) == ("init_nets:make", None)
    assert (experiment.ingest.test.path, experiment.ingest.size) == (f"{here}/pictures", 32)
    preflight(experiment, *KINDS["my-classifier"].jobs)


def test_asks_nothing_beside_a_flag_and_writes_nothing_without_answers(monkeypatch, here):
    monkeypatch.setattr("sys.stdin", _Terminal(""))
    _written("my-classifier", "--classifier", "init_nets:make")
    assert main(["init", "sweep"]) == 130
    assert [path.name for path in here.rglob("*.yaml")] == ["my.yaml"]


def test_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit):
        main(["init", "--help"])
    said = capsys.readouterr().out
    assert all(kind in said for kind in KINDS) and "stl-ray init my-classifier --classifier mypackage:make" in said
    assert all(set(kind.jobs) <= {*JOBS} for kind in KINDS.values())


def test_a_written_file_says_what_each_line_is_for():
    _written("sweep", "--space", "4_p5_lm0.2.npy")
    with Path("my.yaml").open() as file:
        text = file.read()
    assert len(text.splitlines()[0]) <= 120 and text.count(" # ") > 10
    assert yaml.safe_load(text)["defenses"][1]["grid"] == {"lmbda": [0.1, 0.2, 0.3]}
