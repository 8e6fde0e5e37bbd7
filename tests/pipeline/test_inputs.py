"""The one solver that all nodes of a run use."""

import pytest
import torch

from stl_ray.config import Experiment
from stl_ray.csc import active_set
from stl_ray.pipeline.inputs import with_solver


def experiment(method: str = "auto", gpus: float = 0) -> Experiment:
    photographs = {"format": "photographs"}
    keys = {"name": "any", "root": "runs/any", "ingest": {"train": photographs, "test": photographs}}
    return Experiment.model_validate({**keys, "solver": {"method": method}, "ray": {"gpus_per_actor": gpus}})


def test_auto_is_settled_before_it_reaches_an_identity() -> None:
    expected = f"active_set/{active_set.instruction_sets()[0]}" if active_set.available() else "admm"
    assert with_solver(experiment()).solver.method == expected


@pytest.mark.parametrize("name", active_set.instruction_sets())
def test_auto_follows_the_cap_on_the_instruction_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(active_set.CAP, name)
    assert with_solver(experiment()).solver.method == f"active_set/{name}"


def test_a_method_that_was_chosen_stays() -> None:
    chosen = experiment("admm")
    assert with_solver(chosen) is chosen


@pytest.mark.skipif(torch.cuda.is_available(), reason="the driver has a GPU of its own")
def test_actors_with_gpus_use_fused_whatever_the_driver_has() -> None:
    assert with_solver(experiment(gpus=1)).solver.method == "fused"
