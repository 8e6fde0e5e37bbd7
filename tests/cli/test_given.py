"""Whose modules go along with a job, and from where they are imported."""

import sys

import pytest

from stl_ray.cli import cluster
from stl_ray.cli.given import functions_of, given_experiment
from stl_ray.config import bundled
from stl_ray.errors import ArtifactError, IncompleteRunError
from stl_ray.store import Layout, Storage

OWN = "classifiers=[{name: own, architecture: owned.nets:make}, {name: cnn, architecture: small_cnn}]"
OTHERS = "classifiers=[{name: other, architecture: others.nets:make}, {name: own, architecture: owned.nets:make}]"


@pytest.fixture
def given(tmp_path):
    """Makes the bundled experiment below a root of the test's, with `key=value`."""

    def make(root: str, *overrides: str):
        return given_experiment(bundled("quickstart"), [f"root={tmp_path / root}", *overrides])

    return make


@pytest.fixture
def substitute(given):
    other = given("other", OTHERS)
    Storage.open(other.root).write(Layout.experiment, other.model_dump_json().encode())
    return other


def test_identity_evaluate_takes_the_modules_of_its_substitute_along(given, substitute, capsys):
    own = given("own", OWN, f"evaluate.tiers.substitute={substitute.root}")
    both = ("owned.nets:make", "others.nets:make")
    assert (
        functions_of(own, "evaluate")
        == functions_of(own, "attack", "evaluate")
        == cluster._sent("evaluate", own)
        == both
    )
    assert functions_of(own, "attack") == functions_of(given("own", OWN), "evaluate") == both[:1]
    assert capsys.readouterr().out == ""


def test_a_substitute_that_cannot_be_read_here_is_refused_unless_another_machine_reads_it(given, substitute, capsys):
    nowhere = given("own", OWN, f"evaluate.tiers.substitute={substitute.root}-nowhere")
    with pytest.raises(IncompleteRunError, match="other-nowhere: there is no finished experiment"):
        functions_of(nowhere, "evaluate")
    assert cluster._sent("evaluate", nowhere) == ("owned.nets:make",)
    assert "they do not travel: " in (said := capsys.readouterr().out) and "other-nowhere" in said
    Storage.open(substitute.root).write(Layout.experiment, b"{}")
    with pytest.raises(ArtifactError, match="not a configuration of this version"):
        cluster._sent("evaluate", given("own", OWN, f"evaluate.tiers.substitute={substitute.root}"))


def test_identity_modules_of_defenses_go_along_as_those_of_classifiers(given):
    defenses = "defenses=[{name: own, defense: owned.defenses:make}, {name: again, defense: owned.defenses:make}]"
    both = given("own", OWN, defenses)
    assert both.functions == functions_of(both, "project") == ("owned.nets:make", "owned.defenses:make")


def test_modules_are_found_in_this_folder_for_a_substitute_alone(given, substitute, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    given("own")
    assert str(tmp_path) not in sys.path
    given("own", f"evaluate.tiers.substitute={substitute.root}")
    assert sys.path[0] == str(tmp_path)
