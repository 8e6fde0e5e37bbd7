"""What defenses are fitted with, on Ray: workers and drivers that die, and the artifact is the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stl_ray.cli import main
from stl_ray.config import load_experiment
from stl_ray.images import decode
from stl_ray.pipeline.fit import artifacts, patches
from stl_ray.pipeline.fitted import artifacts_of
from stl_ray.store import Dataset, load_artifact, verify
from stl_ray.training.defenses.patches import draw_patches, patches_per_image, smallest_keys

pytestmark = pytest.mark.ray

PATCHES = 500

DRIVER = """
import os, signal, sys
from stl_ray.cli import main
from stl_ray.pipeline.fit import artifacts
artifacts.assemble = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
main(["fit", sys.argv[1]])
"""
"""A driver that dies between the run and the artifact."""


@pytest.fixture
def config(images_in_root, write_config) -> str:
    rows = [{"name": "quilting", "defense": "quilting", "options": {"patches": PATCHES, "neighbours": 2}}]
    return write_config(images_in_root.parent, spaces=[], defenses=rows)


def library_of(root: Path) -> np.ndarray:
    """The library of the training images, in one process."""
    tables = list(Dataset.open(str(root / "ingest" / "train")).tables())
    rows = [row for table in tables for row in table.select(["id", "image"]).to_pylist()]
    each = patches_per_image(PATCHES, len(rows))
    images = ((decode(row["image"]["bytes"], max_pixels=10**6), row["id"]) for row in rows)
    drawn = (draw_patches(*one, each, side=5, seed=1, purpose="quilting patch") for one in images)
    return smallest_keys(drawn, PATCHES)[1]


@pytest.mark.faults
def test_invariant_a_fit_whose_driver_dies_goes_on_to_the_same_library(local_ray, images_in_root, config):
    environment = {**os.environ, "RAY_ADDRESS": local_ray}
    died = subprocess.run([sys.executable, "-c", DRIVER, config], env=environment, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    (run,) = images_in_root.glob("fit/patches-*")
    parts = {path: path.stat().st_mtime_ns for path in run.glob("parts/*")}
    assert len(parts) == 6 and not list(images_in_root.glob("artifacts/*/*.json"))

    assert main(["fit", config]) == 0
    assert {path: path.stat().st_mtime_ns for path in run.glob("parts/*")} == parts
    assert verify(str(run))["rows"] == 120
    (folder,) = images_in_root.glob("artifacts/*")
    np.testing.assert_array_equal(
        load_artifact(str(folder), "quilting_library", 1).arrays["patches"], library_of(images_in_root)
    )
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert main(["fit", config]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before

    assert main(["project", config]) == 0
    assert [verify(str(images_in_root / "project" / f"quilting-{split}"))["rows"] for split in ("train", "test")] == [
        120,
        40,
    ]


@pytest.mark.faults
def test_invariant_a_worker_that_dies_costs_nothing(local_ray, images_in_root, config, tmp_path, monkeypatch):
    marker = tmp_path / "died"

    class Dying(patches.PatchTask):
        def make(self, run, shard, table):
            if shard.number == 3 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().make(run, shard, table)

    monkeypatch.setattr(patches, "PatchTask", Dying)
    (fit,) = artifacts_of(load_experiment(config))
    (run,) = artifacts.make_artifact(fit).values()
    assert marker.exists() and run.rows == 120
    stored = load_artifact(fit.storage.root, "quilting_library", 1).arrays["patches"]
    np.testing.assert_array_equal(stored, library_of(images_in_root))
