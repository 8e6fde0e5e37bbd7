"""A user's own network and defense on a cluster: their module goes along with the driver, and another version on a node is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stl_ray.store import Layout, verify

pytestmark = pytest.mark.ray

NET = """
import torch
def make():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 10))
def darker(factor: float = 0.5):
    return lambda images: images * factor
"""

# A Ray whose workers find another folder than the driver, in which the module has a line more.
OTHER_ON_THE_NODES = """
import ray, sys
from stl_ray.cli import main
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20,
         runtime_env={"env_vars": {"PYTHONPATH": sys.argv[1]}})
sys.path.insert(0, sys.argv[2])
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture
def experiment(write_config, tmp_path, local_ray):
    """A configuration whose test images are ingested."""
    config = write_config(
        tmp_path,
        classifiers=[{"name": "own", "architecture": "ownnet.nets:make"}],
        spaces=[], train={}, ray={"actors": 1},
        defenses=[{"name": "dark", "defense": "ownnet.nets:darker"}], project={"splits": ["test"]},
        ingest={"test": {"format": "photographs", "limit": 8}},
        attack={"sets": [{"name": "fgsm", "attack": "fgsm", "linf": 8}]},
    )  # fmt: skip
    for folder, text in (("driver", NET), ("nodes", NET + "# another version\n")):
        package = tmp_path / folder / "ownnet"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "nets.py").write_text(text)
    return config


def run(tmp_path: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    """A driver of its own, given in a folder that has no module."""
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_module_goes_to_the_nodes_of_a_cluster_that_is_joined(experiment, tmp_path, local_ray):
    found = {"PYTHONPATH": str(tmp_path / "driver"), "RAY_ADDRESS": local_ray}  # the workers of that Ray do not find it
    for job in ("ingest", "project", "attack"):
        done = run(tmp_path, "-m", "stl_ray.cli", job, experiment, **found)
        assert done.returncode == 0, done.stdout + done.stderr
    root = tmp_path / "root"
    assert verify(str(root / Layout(str(root)).projected("dark", "test")))["rows"] == 8
    assert verify(str(root / Layout(str(root)).attacked("own", "fgsm")))["rows"] == 8


def test_refuses_another_version_on_a_node_by_its_name(experiment, tmp_path, local_ray):
    done = run(
        tmp_path, "-m", "stl_ray.cli", "ingest", experiment, RAY_ADDRESS=local_ray, PYTHONPATH=str(tmp_path / "driver")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    script = tmp_path / "script.py"
    script.write_text(OTHER_ON_THE_NODES)
    done = run(tmp_path, str(script), str(tmp_path / "nodes"), str(tmp_path / "driver"), "attack", experiment)
    assert done.returncode == 1
    *_, last = done.stderr.strip().splitlines()
    assert "has other inputs, or another version of a module, than the driver" in last, done.stderr
    assert "source.ownnet.nets:make" in last
