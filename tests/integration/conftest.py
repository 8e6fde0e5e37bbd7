"""One local Ray for all integration tests, and one tiny experiment that goes through all seven jobs."""

import contextlib
import logging
from pathlib import Path

import pytest
import ray
import yaml

from stl_ray.cli import main

TINY = {
    "name": "tiny",
    "seed": 1,
    "ray": {"actors": 2},
    "ingest": {
        "train": {"format": "photographs", "limit": 120},
        "test": {"format": "photographs", "limit": 40},
        "shard_size": 20,
    },
    "fit": {
        "clusters": 2,
        "candidates": [2, 3],
        "neighbours": 5,
        "autoencoder": {"epochs": 2},
        "dictionary": {"filters": 16, "images": 16, "holdout": 8, "block": 6, "iterations": 7},
    },
    "project": {"splits": ["train", "test"]},
    "train": {"epochs": 2, "batch_size": 32},
    "attack": {
        "sets": [
            {"name": "fgsm-0.08", "attack": "fgsm", "dissimilarity": 0.08},
            {"name": "bim-0.03", "attack": "bim", "dissimilarity": 0.03, "options": {"steps": 3}},
        ]
    },
    "evaluate": {
        "gallery": 4,
        "tiers": {
            "images": 8,
            "attacks": [
                {"name": "bpda", "tier": "T3", "attack": "pgd", "options": {"steps": 2}},
                {"name": "exact", "tier": "T4", "attack": "pgd", "options": {"steps": 2}},
            ],
        },
    },
}


@pytest.fixture(scope="session")
def storage_environment(request):
    """What the clients of the S3 server need, set before Ray starts, whose workers inherit it; {} without a server."""
    try:
        environment = request.getfixturevalue("ceph").environment()
    except pytest.skip.Exception:
        environment = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture(scope="session")
def local_ray(storage_environment):
    """A Ray of two CPUs; every job of these tests finds it running and leaves it running."""
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 * 1024 * 1024,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def write_config():
    """Writes an experiment like TINY, with other top-level keys; the path of the YAML file."""

    def write(folder: Path, **keys) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "experiment.yaml"
        path.write_text(yaml.safe_dump({**TINY, "root": str(folder / "root"), **keys}))
        return str(path)

    return write


@pytest.fixture(scope="session")
def tiny(local_ray, write_config, tmp_path_factory) -> Path:
    """The root of the tiny experiment after all seven jobs."""
    folder = tmp_path_factory.mktemp("tiny")
    # A relative root, which means the same to workers that run elsewhere.
    with contextlib.chdir(folder):
        assert main(["quickstart", write_config(folder, root="root")]) == 0
    return folder / "root"
