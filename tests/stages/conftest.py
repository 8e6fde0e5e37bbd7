from pathlib import Path

import pytest

from stl_ray.config import Experiment


@pytest.fixture
def experiment_of(tmp_path):
    """Makes an experiment below the test's folder from sections given as keywords."""

    def make(**sections) -> Experiment:
        photographs = {"format": "photographs", "limit": 20}
        values = {
            "name": "test",
            "root": str(tmp_path / "root"),
            "ingest": {"train": photographs, "test": photographs},
            **sections,
        }
        return Experiment.model_validate(values, strict=False)

    return make


@pytest.fixture
def folder_of(tmp_path):
    """Makes a class folder from {name: bytes}; one class `a`, and `b` with one sound image."""

    def make(files: dict[str, bytes]) -> Path:
        for name, data in files.items():
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path / "images"

    return make
