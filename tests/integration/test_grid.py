"""A sweep of 202 cells: killed twice it ends with every cell made once, and another value makes its own cells alone."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from stl_ray.cli import main
from stl_ray.store import verify

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LAMBDAS = [0.05, 0.1, 0.2, 0.4]
QUALITIES = list(range(5, 93))
SETS = ["clean", "fgsm"]


def _written(folder: Path, tiny: Path, lambdas: list[float]) -> str:
    """JPEG at many qualities and three defenses at each of these lambdas, in front of a classifier that is used as it is."""
    values = {
        "name": "grid",
        "root": str(folder / "root"),
        "seed": 1,
        "ray": {"actors": 2},
        "ingest": {"test": {"format": "photographs", "limit": 40}, "shard_size": 20},
        "classifiers": [{"name": "given", "architecture": "small_cnn", "weights": str(tiny / "train" / "vanilla")}],
        "spaces": [{"name": "natural", "load": str(tiny / "spaces" / "natural")}],
        "defenses": [
            {"name": "jpeg", "defense": "jpeg", "grid": {"quality": QUALITIES}},
            {"name": "stl", "defense": "stl", "grid": {"lmbda": lambdas}},
            {"name": "stl_cluster", "defense": "stl_cluster", "grid": {"lmbda": lambdas}},
            {"name": "fine", "defense": "stl", "options": {"accuracy": "reference"}, "grid": {"lmbda": lambdas}},
        ],
        "attack": {"sets": [{"name": "fgsm", "attack": "fgsm", "dissimilarity": 0.08}]},
        "evaluate": {"perturbations": 0, "tiers": {"attacks": []}},
    }
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(values))
    return str(file)


def _receipts(root: Path) -> dict[str, int]:
    """The receipts of predictions, each with the time when it was written."""
    files = (root / "evaluate" / "given").glob("*/done/*.json")
    return {str(file.relative_to(root)): file.stat().st_mtime_ns for file in files}


def _killed_after(receipts: int, config: str, root: Path, address: str) -> None:
    """Evaluate until there are so many receipts."""
    command = [sys.executable, "-m", "stl_ray.cli", "evaluate", config]
    driver = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": address}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while len(_receipts(root)) < receipts and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert driver.poll() is None, driver.stderr.read().decode()
    driver.kill()
    driver.wait()


def test_invariant_every_cell_is_made_once(local_ray, tiny, tmp_path):
    root, rows = tmp_path / "root", [f"{name}-l{value}" for name in ("stl", "stl_cluster", "fine") for value in LAMBDAS]
    rows += [f"jpeg-q{value}" for value in QUALITIES]
    shutil.copytree(tiny / "ingest" / "test", root / "ingest" / "test")
    config = _written(tmp_path, tiny, LAMBDAS)
    assert main(["attack", config]) == 0
    kept: dict[str, int] = {}
    for receipts in (50, 220):
        _killed_after(receipts, config, root, local_ray)
        found = _receipts(root)
        assert found.items() >= kept.items()
        kept = found
    assert not list((root / "evaluate" / "given").glob("fine-l0.4*/MANIFEST.json"))
    assert main(["evaluate", config]) == 0
    done = _receipts(root)
    cells = {folder.name for folder in (root / "evaluate" / "given").iterdir() if folder.is_dir()}
    assert len(cells) == 202
    assert cells == {f"{name}-on-{images}" for name in ("none", *rows) for images in SETS}
    assert len(done) == 2 * len(cells) and done.items() >= kept.items()
    for cell in cells:
        assert verify(str(root / "evaluate" / "given" / cell))["rows"] == 40

    assert main(["evaluate", _written(tmp_path, tiny, [0.05, 0.1, 0.2, 0.3])]) == 0
    after = _receipts(root)
    new = {Path(file).parts[2] for file in after.keys() - done.keys()}
    assert new == {f"{name}-l0.3-on-{images}" for name in ("stl", "stl_cluster", "fine") for images in SETS}
    assert {file: written for file, written in after.items() if file in done} == done
