"""cluster.yaml: what the Ray cluster launcher checks, and what it does not."""

import json
from importlib.metadata import requires, version
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parents[2] / "cluster.yaml"
KINDS_OF_RESOURCES = {"CPU", "GPU"}


@pytest.fixture
def cluster() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_it_fits_the_launchers_schema_as_it_is_and_with_its_defaults(cluster):
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)
    validate_config(prepare_config(cluster))


def test_every_type_has_whole_resources_and_a_range_of_nodes(cluster):
    types = cluster["available_node_types"]
    for name, kind in types.items():
        assert 0 <= kind["min_workers"] <= kind["max_workers"] <= cluster["max_workers"], name
        assert kind["resources"].keys() <= KINDS_OF_RESOURCES
        assert all(type(amount) is int for amount in kind["resources"].values()), name
    assert sum(kind["max_workers"] for kind in types.values()) <= cluster["max_workers"]
    assert all(kind["min_workers"] == 0 for kind in types.values())


def test_nobody_without_the_token_and_the_dashboard_on_loopback(cluster):
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    (start,) = (line for line in cluster["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in start and "--num-cpus=0" in start and "ulimit" in start


def test_every_node_runs_the_image_that_has_the_pinned_ray_this_package_and_its_dependencies(cluster):
    assert cluster["docker"]["image"] == f"REGISTRY/stl-ray:{version('stl-ray')}"
    assert not any("docker" in kind for kind in cluster["available_node_types"].values())
    assert not any("pip install" in command for command in cluster["setup_commands"])
    lines = (FILE.parent / "deploy" / "Dockerfile").read_text().splitlines()
    assert any(line.startswith(f"FROM rayproject/ray:{version('ray')}-py311-cu") for line in lines)
    assert any("pip install" in line and "/tmp/stl_ray-*.whl" in line for line in lines)
    assert any("ray[" in need and version("ray").rpartition(".")[0] in need for need in requires("stl-ray"))


def test_there_is_nothing_secret():
    assert not any(secret in FILE.read_text() for secret in ("AKIA", "SECRET", "arn:aws", "PASSWORD"))
