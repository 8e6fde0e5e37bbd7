"""One local Ray for all integration tests, and one tiny experiment that goes through all seven jobs and is copied."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
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
    "spaces": [
        {
            "name": "natural",
            "clusters": 2,
            "candidates": [2, 3],
            "neighbours": 5,
            "autoencoder": {"epochs": 2},
            "dictionary": {"filters": 16, "images": 16, "holdout": 8, "block": 6, "iterations": 7},
        }
    ],
    "classifiers": [{"name": "vanilla", "architecture": "small_cnn", "retrain": {}}],
    "defenses": [{"name": "stl", "defense": "stl"}, {"name": "stl_cluster", "defense": "stl_cluster"}],
    "project": {"splits": ["train", "test"]},
    "train": {"epochs": 2, "batch_size": 32, "ema": 0.9},
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
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # as `ray_session` does
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


class Alone:
    """`stl-ray` as a process of its own that starts a Ray of its own, as on a machine where nothing runs yet.

    Args:
        folder: for Ray's sessions and what the processes say; a short path, since the names of sockets may not be long.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._outputs = 0

    def start(self, *arguments: str, environment: Mapping[str, str]) -> subprocess.Popen:
        """Start it with no other settings of AWS and Ray than these."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
        self._outputs += 1
        with (self.folder / f"output-{self._outputs}").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "stl_ray.cli", *arguments],
                env={**others, **environment, "RAY_TMPDIR": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def run(self, *arguments: str, environment: Mapping[str, str]) -> int:
        """The exit code."""
        return self.start(*arguments, environment=environment).wait(timeout=400)

    def said(self) -> str:
        """What the last one wrote to stdout and stderr."""
        return (self.folder / f"output-{self._outputs}").read_text()

    def sessions(self) -> list[Path]:
        """Ray's folders, one for each time that it was started."""
        return sorted(path for path in self.folder.rglob("session_*") if path.is_dir() and not path.is_symlink())

    def written(self) -> bytes:
        """All that they said, and all that their Rays have written."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return b"".join(path.read_bytes() for path in files)


@pytest.fixture
def alone():
    """An `Alone`; what it has written is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as folder:
        yield Alone(Path(folder))


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
def ingested(local_ray, write_config, tmp_path_factory) -> Path:
    """The root of the tiny experiment after its first job."""
    folder = tmp_path_factory.mktemp("ingested")
    # A relative root, which means the same to workers that run elsewhere.
    with contextlib.chdir(folder):
        assert main(["ingest", write_config(folder, root="root", ray={"actors": 1})]) == 0
    return folder / "root"


@pytest.fixture(scope="session")
def tiny(ingested, write_config, tmp_path_factory) -> Path:
    """The root of the tiny experiment after all seven jobs, made by one actor; the tests of faults have two."""
    folder = tmp_path_factory.mktemp("tiny")
    shutil.copytree(ingested / "ingest", folder / "root" / "ingest")
    with contextlib.chdir(folder):
        assert main(["quickstart", write_config(folder, root="root", ray={"actors": 1})]) == 0
    return folder / "root"


@pytest.fixture
def images_in_root(ingested, tmp_path) -> Path:
    """The folder "root" of the test, which has the images of the tiny experiment and nothing more."""
    shutil.copytree(ingested / "ingest", tmp_path / "root" / "ingest")
    return tmp_path / "root"


@pytest.fixture(scope="session")
def random_space():
    """Makes a space of random filters in the folder "given" of a root, to be loaded from there."""

    def make(root: Path, filters: int, side: int) -> None:
        kernels = np.random.default_rng(0).standard_normal((side, side, 3, filters)).astype(np.float32)
        file = root.parent / f"{filters}_p{side}_lm0.2.npy"
        np.save(file, kernels / np.sqrt((kernels**2).sum(axis=(0, 1, 2))))
        assert main(["import", str(file), str(root / "given")]) == 0

    return make
