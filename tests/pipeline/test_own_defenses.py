"""Defenses of a user's own through every job; every shard made here instead of in an actor."""

import sys

import pytest
import torch

from stl_ray.errors import ConfigError, GradientError, QuarantineReason, TensorError
from stl_ray.images import encode_png, quantize, to_uint8
from stl_ray.models import build_classifier, save_classifier
from stl_ray.pipeline import project, train
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.evaluate import adaptive
from stl_ray.pipeline.evaluate import job as evaluate
from stl_ray.pipeline.preflight import preflight
from stl_ray.pipeline.train.job import input_transform_of
from stl_ray.pipeline.train.plan import plan as trainings_of
from stl_ray.store import Dataset, Layout, Run

MODULE = """
import torch

def darker(factor: float = 0.5):
    def transform(images):
        return images * factor
    transform.exact = True
    return transform

def stretched():
    return lambda images: images / (images.amin((1, 2, 3), keepdim=True) < 1)

def mixed():
    return lambda images: images.roll(1, 0)

def straight():
    def transform(images):
        return images + ((images * 8).round() / 8 - images).detach()
    transform.exact = True
    return transform
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ownjobs.py").write_text(MODULE)
    yield
    sys.modules.pop("ownjobs", None)


@pytest.fixture
def made(experiment_of, finished_run, image_tables, natural_images, module):
    """Makes an experiment with defenses of the module; the last of its ten images is white."""
    images = quantize(natural_images[:10, :, 8:24, 8:24])
    images[9] = 1

    def make(*defenses: dict, trained: bool = True, **sections):
        attacks = [{"name": name, "tier": tier, "attack": "pgd", "options": {"steps": 1}} for name, tier in
                   (("near", "T3"), ("exact", "T4"))]  # fmt: skip
        own = experiment_of(
            **{
                "defenses": list(defenses),
                "project": {"splits": ["train", "test"]},
                "attack": {"sets": [{"name": "set", "attack": "fgsm", "linf": 8, "victim": {"defense": "dark"}}]},
                "evaluate": {"gallery": 2, "tiers": {"images": 3, "budget": {"linf": 8}, "attacks": attacks}},
                **sections,
            }
        )
        layout = Layout(own.root)
        for split in ("train", "test"):
            finished_run(own, layout.ingested(split), *image_tables([encode_png(i) for i in to_uint8(images)], 6, 4))
        if trained:
            classifier = build_classifier("small_cnn", ["a", "b"], seed=3).eval()
            save_classifier(layout.uri(layout.classifier("vanilla")), classifier, {})
        return own

    return make


DARK = {"name": "dark", "defense": "ownjobs:darker", "options": {"factor": 0.75}}
BOTH = {"name": "both", "defense": "ensemble", "options": {"of": ["none", "dark"]}}
STRETCHED = {"name": "stretched", "defense": "ownjobs:stretched"}


def rows(experiment, folder: str) -> dict[str, dict]:
    tables = Dataset.open(Layout(experiment.root).uri(folder)).tables()
    return {row["id"]: row for table in tables for row in table.to_pylist()}


def test_it_goes_through_every_job_as_any_other(made, run_here):
    own = made(DARK, BOTH)
    preflight(own, "project", "train", "attack", "evaluate")
    for job in (project, attack, evaluate):
        run_here(job.plan(own), own)
    assert attack.look(own) == evaluate.look(own) == {}
    for plan in (adaptive.plan_tiers, adaptive.plan_checks):
        run_here(plan(own), own)
    layout = Layout(own.root)
    assert len(rows(own, layout.projected("dark", "test"))) == 10
    for defense in ("dark", "both"):
        assert len(rows(own, layout.predictions("vanilla", defense, "set"))) == 10
    assert len(rows(own, layout.verdicts("vanilla", "dark"))) == 3


def test_a_bad_image_is_set_aside_and_the_others_go_on(made):
    own = made(STRETCHED)
    task = project.plan(own).make_task()
    (first, second) = project.plan(own).runs[0].plan
    folder = Layout(own.root).projected("stretched", "train")
    assert not task(folder, first).quarantine
    output = task(folder, second)
    (lost,) = output.quarantine
    assert (output.table.num_rows, lost.reason) == (3, QuarantineReason.NOT_AN_IMAGE)
    assert "ownjobs:stretched made of it is not finite" in lost.message


def test_a_classifier_is_trained_behind_it(made, natural_images):
    recipe = {"recipe": {"epochs": 1}, "retrain": {"projection": "on_the_fly"}}
    own = made(DARK, classifiers=[{"name": "vanilla", "architecture": "small_cnn", **recipe}])
    (training,) = [item for item in trainings_of(own) if item.retrained_for == "dark"]
    through = input_transform_of(own, training, "cpu")
    images = quantize(natural_images[:2])
    assert torch.equal(through(images, [0, 1]), images * 0.75)
    assert "source" in training.identity["defense"]


@pytest.mark.parametrize(("name", "kind"), [("mixed", TensorError), ("straight", GradientError)])
def test_refuses_what_gives_wrong_figures_before_any_shard(made, name, kind):
    recipe = {"recipe": {"epochs": 1}, "retrain": {"projection": "on_the_fly"}}
    classifiers = [{"name": "vanilla", "architecture": "small_cnn", **recipe}]
    own = made({"name": "dark", "defense": f"ownjobs:{name}"}, classifiers=classifiers, trained=False)
    for job in (project.run, train.run):
        with pytest.raises(kind, match=f"dark: ownjobs:{name}: "):
            job(own)
    sets = [{"name": "set", "attack": "fgsm", "linf": 8, "victim": {"defense": "dark", "gradient": "bpda"}}]
    own = made({"name": "dark", "defense": f"ownjobs:{name}"}, root=f"{own.root}-2", attack={"sets": sets})
    with pytest.raises(kind, match=f"dark: ownjobs:{name}: "):
        attack.run(own)
    for folder in (Layout(own.root).projected("dark", "train"), Layout(own.root).attacked("vanilla", "set")):
        assert not Run.open(own.root, folder).storage.exists("PLAN.json")


@pytest.mark.usefixtures("module")
def test_refuses_before_any_work_what_is_no_defense_by_the_entry_s_name(experiment_of):
    for defense, options, said in (
        ("ownjobs:darkr", {}, "mine: ownjobs:darkr: the module has no such function; expected 'darker'"),
        ("ownjobs:darker", {"faktor": 1.0}, "mine: ownjobs:darker.faktor: unknown option; expected 'factor'"),
    ):
        with pytest.raises(ConfigError, match=said):
            preflight(experiment_of(defenses=[{"name": "mine", "defense": defense, "options": options}]), "project")
