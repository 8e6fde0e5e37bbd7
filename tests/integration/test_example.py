"""examples/your_classifier at tiny size: by commands, as a submitted job with the module travelling, and with timm."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stl_ray.cli import main
from stl_ray.images import decode
from stl_ray.store import Dataset, Layout
from tests.head import Head

pytestmark = pytest.mark.ray

REPOSITORY = Path(__file__).parents[2]
JOBS = ("ingest", "attack", "evaluate")
SMALL = ("evaluate.tiers.images=6", "ray.actors=1")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example's folder with everything that a user would bring, and with the scripts of the jobs."""
    folder = tmp_path_factory.mktemp("example") / "mine"
    for name in ("examples/your_classifier", "jobs"):
        into = folder / "jobs" if name == "jobs" else folder
        shutil.copytree(
            REPOSITORY / name,
            into,
            ignore=shutil.ignore_patterns("runs", "photographs", "*.npy", "*.pt", "__pycache__"),
        )
    command = [sys.executable, "prepare.py", "--side", "32"]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return folder


@pytest.fixture(scope="module")
def commanded(example) -> Path:
    """The root after the README's commands on one Ray, in the example's folder; `stl-ray` has no folder of its own to look in."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONPATH"))}
    program = Path(sys.executable).with_name("stl-ray")
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as ray:
        done = subprocess.run(
            [program, "quickstart", "experiment.yaml", *SMALL], cwd=example, capture_output=True, text=True,
            env={**others, "RAY_TMPDIR": ray},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    return example / "runs" / "your-classifier"


@pytest.mark.faults
def test_the_commands_score_the_network_alone_and_behind_both_defenses(commanded):
    scores = _scores(commanded)
    accuracy = {(cell["defense"], cell["attack"]): cell["accuracy"] for cell in scores["cells"]}
    assert {defense for defense, _ in accuracy} == {"none", "jpeg", "stl"}
    assert {attack for _, attack in accuracy} == {"clean", "fgsm", "pgd", "pgd-through-stl"}
    assert accuracy["none", "clean"] > 0.6  # its weights are those that the function read; chance is 1/8
    assert (
        accuracy["none", "pgd"] < accuracy["none", "clean"]
        and accuracy["stl", "pgd-through-stl"] < accuracy["stl", "clean"]
    )
    tiers = {row["defense"]: {step["attack"]: step["tier"] for step in row["steps"]} for row in scores["tiers"]["rows"]}
    assert tiers["stl"]["exact-pgd"] == "T4" and tiers["stl"]["pgd-through-stl"] == "T4"
    assert "mymodels:make" in (commanded / "report" / "report.md").read_text()


@pytest.mark.faults
def test_agrees_with_the_same_as_a_job_of_a_cluster_to_which_the_folder_travels(commanded, example, tmp_path):
    head = Head(Path(tempfile.mkdtemp(prefix="h", dir="/tmp")), bare=False)
    # Its attacks on the defenses would be those of `commanded`, made by workers that load the module as these do.
    settings = " ".join([*SMALL, f"root={tmp_path}/root", "evaluate.tiers.attacks=[]"])
    try:
        head.start()
        jobs = " && ".join(f"python jobs/{job}.py experiment.yaml {settings}" for job in JOBS)
        head.succeeded(jobs, working_dir=str(example), excludes=["/runs"])
    finally:
        head.stop()
        shutil.rmtree(head.folder)
    assert _scores(tmp_path / "root")["cells"] == _scores(commanded)["cells"]
    for attack in ("fgsm", "pgd", "pgd-through-stl"):
        folder = Layout("").attacked("mine", attack)
        ours, theirs = (Dataset.open(str(root / folder)) for root in (commanded, tmp_path / "root"))
        assert ours.digest == theirs.digest


@pytest.mark.slow
def test_a_network_of_timm_is_trained_at_64_pixels_and_scored(example, local_ray, monkeypatch):
    pytest.importorskip("timm", reason="an optional extra")
    monkeypatch.chdir(example)
    root = example / "runs" / "timm"
    for job in ("ingest", "train", "attack", "evaluate"):
        settings = (*SMALL, f"root={root}", "classifiers.0.recipe.epochs=3")
        assert main([job, "timm.yaml", *settings]) == 0, job
    scores = _scores(root, "timm")
    assert scores["architecture"] == "timm:test_resnet"
    assert {(cell["defense"], cell["attack"]) for cell in scores["cells"]} == {
        (defense, attack) for defense in ("none", "jpeg", "stl") for attack in ("clean", "fgsm", "pgd")
    }
    image = next(Dataset.open(str(root / Layout("").ingested("test"))).tables())["image"][0].as_py()
    assert decode(image["bytes"], max_pixels=10**6).shape == (64, 64, 3)


def _scores(root: Path, classifier: str = "mine") -> dict:
    return json.loads((root / Layout(str(root)).scores(classifier)).read_text())
