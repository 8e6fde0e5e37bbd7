"""Defenses that cannot do with a classifier or with the images are refused on the driver, with both names."""

import sys

import pytest

from stl_ray.errors import ConfigError, TensorError
from stl_ray.images import encode_png, quantize, to_uint8
from stl_ray.pipeline import project
from stl_ray.pipeline.attack import job as attack
from stl_ray.pipeline.evaluate import job as evaluate
from stl_ray.store import Layout, Run

NET = """
import torch

def smooth():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(784, 2))
"""

SAP = {"name": "pruned", "defense": "sap", "options": {"passes": 2}}
DEFLECTED = {"name": "pd", "defense": "pixel_deflection"}
SMALL = {"name": "wide", "defense": "gaussian_filter", "options": {"sigma": 8}}


@pytest.fixture
def made(experiment_of, finished_run, image_tables, natural_images, tmp_path, monkeypatch):
    """Makes an experiment with a network that has no ReLU and no average of features, on ten images of 16 pixels."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lookednets.py").write_text(NET)

    def make(defense: dict, *sets: dict):
        own = experiment_of(
            defenses=[defense], project={"splits": ["test"]}, **({"attack": {"sets": list(sets)}} if sets else {}),
            classifiers=[{"name": "own", "architecture": "lookednets:smooth"}],
        )  # fmt: skip
        images = to_uint8(quantize(natural_images[:10, :, 8:24, 8:24]))
        if not Run.open(own.root, Layout(own.root).ingested("test")).storage.exists("MANIFEST.json"):
            finished_run(own, Layout(own.root).ingested("test"), *image_tables([encode_png(i) for i in images], 10))
        return own

    yield make
    sys.modules.pop("lookednets", None)


def set_behind(defense: str) -> dict:
    return {"name": "set", "attack": "fgsm", "linf": 8, "victim": {"defense": defense, "gradient": "bpda"}}


@pytest.mark.parametrize(
    ("defense", "kind", "said"),
    [
        (SAP, ConfigError, "pruned in front of own: sap: the classifier has nothing to prune"),
        (DEFLECTED, ConfigError, "pd: lookednets:smooth: a class activation map cannot be made of its layers"),
        (SMALL, TensorError, "wide: "),
    ],
    ids=["sap", "map", "size"],
)
def test_refuses_before_any_shard(made, defense, kind, said):
    own, name = made(defense), defense["name"]
    with pytest.raises(kind, match=said):
        evaluate.look(own)  # as `run` does before its first shard
    own = made(defense, set_behind(name))
    with pytest.raises(kind, match=said):
        attack.run(own)
    assert not Run.open(own.root, Layout(own.root).attacked("own", "set")).storage.exists("PLAN.json")
    if defense is not SAP:
        with pytest.raises(kind, match=said):
            project.run(own)
