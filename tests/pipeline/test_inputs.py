"""The one solver that all nodes of a run use, and what defenses are made with."""

import pytest
import torch

from stl_ray.config import Experiment
from stl_ray.csc import native
from stl_ray.errors import IncompleteRunError
from stl_ray.models import build_classifier, save_classifier
from stl_ray.pipeline.defenses import make_defenses
from stl_ray.pipeline.inputs import with_solver
from stl_ray.store import Layout


def experiment(method: str = "auto", gpus: float = 0) -> Experiment:
    photographs = {"format": "photographs"}
    keys = {"name": "any", "root": "runs/any", "ingest": {"train": photographs, "test": photographs}}
    return Experiment.model_validate({**keys, "solver": {"method": method}, "ray": {"gpus_per_actor": gpus}})


def test_auto_is_settled_before_it_reaches_an_identity() -> None:
    expected = f"active_set/{native.instruction_sets()[0]}" if native.available() else "admm"
    assert with_solver(experiment()).solver.method == expected


@pytest.mark.parametrize("name", native.instruction_sets())
def test_auto_follows_the_cap_on_the_instruction_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(native.CAP, name)
    assert with_solver(experiment()).solver.method == f"active_set/{name}"


def test_a_method_that_was_chosen_stays() -> None:
    chosen = experiment("admm")
    assert with_solver(chosen) is chosen


@pytest.mark.skipif(torch.cuda.is_available(), reason="the driver has a GPU of its own")
def test_actors_with_gpus_use_fused_whatever_the_driver_has() -> None:
    assert with_solver(experiment(gpus=1)).solver.method == "fused"


def test_a_defense_looks_with_the_classifier_that_it_names(experiment_of, finished_run, image_tables, crops) -> None:
    networks = [{"name": name, "architecture": "small_cnn"} for name in ("wide", "narrow")]
    defense = {"name": "pd", "defense": "pixel_deflection", "options": {"classifier": "narrow", "deflections": 20}}
    chosen = experiment_of(classifiers=networks, defenses=[defense])
    finished_run(chosen, "ingest/test", *image_tables(crops(4), 4))
    with pytest.raises(IncompleteRunError, match="no such classifier; run `stl-ray train` first"):
        make_defenses(chosen)
    narrow = build_classifier("small_cnn", ["a", "b"], seed=3).eval()
    save_classifier(Layout(chosen.root).uri(Layout(chosen.root).classifier("narrow", None)), narrow, {})
    made = make_defenses(chosen)["pd"]
    weights = made.classifier.backbone.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in narrow.backbone.state_dict().items())
    image = torch.rand(1, 3, 24, 24)
    assert not torch.equal(made.purify(image, seeds=[0]).images, image)
