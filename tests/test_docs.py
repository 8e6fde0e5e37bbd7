"""docs/experiments.md shows configurations, docs/defenses.md a defense of one's own; they are such as the jobs take."""

import re
import textwrap
from pathlib import Path

import pytest
import torch

from stl_ray.config import load_experiment
from stl_ray.defenses.look import look
from stl_ray.images import quantize
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.preflight import preflight

_PAGE = (Path(__file__).parents[1] / "docs/experiments.md").read_text(encoding="utf-8")
_BLOCKS = [textwrap.dedent(block) for block in re.findall(r"(?:^(?: {4}.*)?\n)+", _PAGE, re.MULTILINE) if block.strip()]
_WHOLE = [block.strip() for block in _BLOCKS if block.lstrip().startswith("name:")]
_CLASSIFIERS = [block.strip() for block in _BLOCKS if block.lstrip().startswith("classifiers:")]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The user's module that the page names."""
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage/__init__.py").touch()
    (tmp_path / "mypackage/models.py").write_text("def make():\n    raise NotImplementedError\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("text", _WHOLE)
def test_identity_an_experiment_of_the_page_is_sound(text, tmp_path):
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    preflight(load_experiment(str(file)))


@pytest.mark.parametrize("text", _CLASSIFIERS)
@pytest.mark.usefixtures("package")
def test_identity_classifiers_of_the_page_are_sound(text, tmp_path):
    if "timm:" in text:
        pytest.importorskip("timm")
    file = tmp_path / "experiment.yaml"
    file.write_text(
        f"name: page\nroot: root\ningest: {{train: {{format: photographs}}, test: {{format: photographs}}}}\n{text}\n"
    )
    preflight(load_experiment(str(file)))


def test_invariant_the_page_shows_some():
    assert len(_WHOLE) == 1
    assert len(_CLASSIFIERS) == 2


_OWN = (
    (Path(__file__).parents[1] / "docs/defenses.md").read_text(encoding="utf-8").partition("a defense of your own")[2]
)
_OWN_BLOCKS = [textwrap.dedent(block).strip() for block in re.findall(r"(?:^(?: {4}.*)?\n)+", _OWN, re.MULTILINE)]


def test_identity_the_defense_of_one_s_own_on_its_page_works(tmp_path, monkeypatch, natural_images):
    source, entries = [block for block in _OWN_BLOCKS if block][:2]
    assert len(source.splitlines()) == 10
    (tmp_path / "mydefenses.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    sections = "ingest: {train: {format: photographs}, test: {format: photographs}}\nname: page\nroot: root\n"
    (tmp_path / "experiment.yaml").write_text(f"{sections}{entries}\n")
    experiment = load_experiment(str(tmp_path / "experiment.yaml"))
    preflight(experiment, "project")
    images = quantize(natural_images[::6])
    for name, defense in make_defenses(experiment).items():
        look(defense, {}, images, item=name)
        assert defense.gradients == ("exact", "bpda")
        assert not torch.equal(defense.purify(images, seeds=range(len(images))).images, images)
