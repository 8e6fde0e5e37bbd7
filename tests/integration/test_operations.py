"""The verbs of operation on a real Ray: dry runs that write nothing and are not far off, and the check-up of nodes."""

import json
import re
import shutil

import numpy as np
import pytest

from stl_ray.cli import main
from stl_ray.config import load_experiment
from stl_ray.config.help import JOBS
from stl_ray.images import encode_png
from stl_ray.pipeline.estimate import estimate
from stl_ray.runtime.submission.node_check import disagreements, examine

pytestmark = pytest.mark.ray


# What every job makes; a root in which the jobs before one are done has the folders before its own.
MADE = {
    "ingest": ["ingest"], "fit": ["fit", "spaces"], "project": ["project"], "train": ["train"], "attack": ["attack"],
    "evaluate": ["evaluate"], "report": ["report"],
}  # fmt: skip
SETS = [
    {"name": "mean", "attack": "fgsm", "dissimilarity": 0.05, "budget": "dataset_mean"},
    {"name": "uap", "attack": "uap_gradient", "dissimilarity": 0.05, "options": {"images": 10, "epochs": 2},
     "budget": "dataset_mean"},
]  # fmt: skip
"""Sets that must be calibrated."""


def _files(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def _bytes(root):
    """Every file below a root; but for leases, and the sessions of jobs, which are recorded however they end."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] not in ("jobs", "status") and path.name != "lease.lock"
    }


def _copied(tiny, root, jobs):
    root.mkdir(parents=True)
    for folder in (folder for job in jobs for folder in MADE[job]):
        shutil.copytree(tiny / folder, root / folder)


@pytest.mark.parametrize("job", JOBS)
def test_invariant_no_dry_run_writes_anything_whatever_was_done_before(tiny, write_config, tmp_path, capsys, job):
    before_it = list(JOBS)[: list(JOBS).index(job)]
    for number, jobs in enumerate((before_it, before_it[:-1], [])):
        folder = tmp_path / str(number)
        _copied(tiny, folder / "root", jobs)
        before = _files(folder / "root")
        config = write_config(folder, **({"attack": {"sets": SETS}} if job == "attack" else {}))
        code = main([job, config, "--dry-run"])
        assert code == (0 if jobs == before_it else 1) or job == "report"
        assert _files(folder / "root") == before
    if job == "attack":
        text = capsys.readouterr().out
        assert re.search(r"calibrations/vanilla/mean +40 +40 +images", text)
        assert re.search(r"calibrations/vanilla/uap +60 +60 +images .* <= ", text)
        assert len(re.findall(r"attack/vanilla/(mean|uap) +2 +40 +40 +images", text)) == 2


CHANGES = {
    "ingest": "ingest.size=48",
    "fit": "solver.method=admm",
    "project": "defenses.0.options.normalization=reference",
    "train": "train.epochs=3",
    "attack": "seed=2",
    "evaluate": "evaluate.tiers.cascade=false",
}


@pytest.mark.parametrize("job", CHANGES)
def test_invariant_a_job_that_is_refused_leaves_everything_as_it_was(tiny, write_config, tmp_path, capsys, job):
    _copied(tiny, tmp_path / "root", JOBS)
    before = _bytes(tmp_path / "root")
    # A set that is new and must be calibrated comes before those that are refused.
    sets = [SETS[0], {"name": "fgsm-0.08", "attack": "fgsm", "dissimilarity": 0.08}]
    config = write_config(tmp_path, **({"attack": {"sets": sets}} if job == "attack" else {}))
    assert main([job, config, CHANGES[job]]) == 1
    assert "RunIdentityError" in capsys.readouterr().err
    assert _bytes(tmp_path / "root") == before


@pytest.mark.faults
def test_invariant_a_refused_attack_leaves_the_calibration_of_the_stored_set(tiny, write_config, tmp_path, capsys):
    jobs = list(JOBS)
    _copied(tiny, tmp_path / "root", jobs[: jobs.index("attack")])
    mean, uap = SETS
    assert main(["attack", write_config(tmp_path, attack={"sets": [mean, uap]})]) == 0
    before = _bytes(tmp_path / "root")
    assert "calibrations/vanilla/mean/calibration.json" in before
    for changed in ({**mean, "dissimilarity": 0.06}, {**uap, "options": {"images": 12, "epochs": 2}}):
        assert main(["attack", write_config(tmp_path, attack={"sets": [changed]})]) == 1
        assert "RunIdentityError" in capsys.readouterr().err
        assert _bytes(tmp_path / "root") == before
    # Another training split would give another vector, and the set's identity does not name the split.
    shutil.rmtree(tmp_path / "root" / "ingest" / "train")
    assert main(["ingest", write_config(tmp_path), "ingest.train.limit=60"]) == 0
    before = _bytes(tmp_path / "root")
    assert main(["attack", write_config(tmp_path, attack={"sets": [mean, uap]})]) == 1
    assert "calibration" in capsys.readouterr().err
    assert _bytes(tmp_path / "root") == before
    # What was lost is made again, to the same bytes.
    shutil.rmtree(tmp_path / "root" / "calibrations" / "vanilla" / "mean")
    assert main(["attack", write_config(tmp_path, attack={"sets": [mean]})]) == 0
    assert {**_bytes(tmp_path / "root"), "experiment.json": before["experiment.json"]} == before


@pytest.mark.parametrize("job", JOBS)
def test_invariant_a_dry_run_of_what_is_done_has_nothing_left_and_writes_nothing(
    tiny, write_config, tmp_path, capsys, job
):
    before = _files(tiny)
    assert main([job, write_config(tmp_path, root=str(tiny)), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert f"{job}: about 0 s after Ray's start" in text and "nothing was written" in text
    assert _files(tiny) == before


def test_agrees_what_a_dry_run_says_of_disk_and_shards_with_what_is_made(tiny, write_config, tmp_path):
    for folder in ("ingest", "spaces"):
        shutil.copytree(tiny / folder, tmp_path / "root" / folder)
    found = estimate("project", load_experiment(write_config(tmp_path)))
    assert not (tmp_path / "root" / "project").exists()
    made = sum(path.stat().st_size for path in (tiny / "project").glob("*/parts/*"))
    assert (sum(step.left for step in found.steps), sum(step.shards for step in found.steps)) == (2 * 160, 2 * 8)
    # A shard of twenty rows has a larger share of Parquet's own bytes than the sample.
    assert found.bytes == pytest.approx(made, rel=0.3)
    assert found.seconds > 0


@pytest.mark.parametrize(("job", "steps"), [("fit", 6), ("train", 3)])
def test_a_dry_run_of_learning_counts_what_would_be_learned(tiny, write_config, tmp_path, job, steps):
    for folder in ("ingest", "spaces", "project"):
        shutil.copytree(tiny / folder, tmp_path / "root" / folder)
    found = estimate(job, load_experiment(write_config(tmp_path)))
    assert len(found.steps) == steps
    assert all(step.left == step.total > 0 for step in found.steps)
    assert found.seconds > 0 and found.bytes > 0
    assert not (tmp_path / "root" / job).exists()


def test_a_dry_run_of_fit_counts_what_other_defenses_are_made_of(ingested, write_config, tmp_path):
    shutil.copytree(ingested / "ingest", tmp_path / "root" / "ingest")
    options = {
        "magnet": {"epochs": 3, "windows": 40, "side": 16, "batch_size": 16},
        "d3": {"atoms": 20},
        "quilting": {"patches": 300},
    }
    defenses = [{"name": name, "defense": name, "options": own} for name, own in options.items()]
    found = estimate("fit", load_experiment(write_config(tmp_path, defenses=defenses, spaces=[])))
    made = {step.unit: step for step in found.steps if step.shards is None}
    assert {unit: step.left for unit, step in made.items()} == {"windows": 120, "candidates": 200, "patches": 300}
    assert made["windows"].seconds > 0 and made["candidates"].seconds > 0 and made["candidates"].at_most
    assert made["patches"].bytes == 300 * 75
    assert len(found.steps) == 6 and not (tmp_path / "root" / "artifacts").exists()


@pytest.mark.faults
def test_a_dry_run_of_evaluate_counts_the_attacks_of_the_tiers_and_their_checks(tiny, write_config, tmp_path, capsys):
    for folder in ("ingest", "spaces", "train", "attack"):
        shutil.copytree(tiny / folder, tmp_path / "root" / folder)
    assert main(["evaluate", write_config(tmp_path), "--dry-run"]) == 0
    text = capsys.readouterr().out
    for defense in ("stl", "stl_cluster"):
        for part in ("attack", "checks"):
            assert re.search(rf"evaluate/vanilla/{defense}-under-{part} +1 +8 +8 +images .* <= ", text)
            assert re.search(
                rf"evaluate/vanilla/{defense}-under-{part}: for each image \d+ forward passes, \d+ backward", text
            )
    assert "evaluate: at most " in text
    assert not (tmp_path / "root" / "evaluate").exists()


def test_refuses_a_dry_run_without_inputs_and_names_the_job_that_makes_them(local_ray, write_config, tmp_path, capsys):
    assert main(["project", write_config(tmp_path), "--dry-run"]) == 1
    assert "run `stl-ray fit` first" in capsys.readouterr().err


def test_doctor_finds_this_machine_fit(local_ray, write_config, tmp_path, capsys):
    assert main(["doctor", write_config(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"\S+ +2 +0 .* writable\nall 1 nodes are fit for", text)
    assert not list((tmp_path / "root").rglob("*"))


def test_doctor_says_what_is_to_mend(local_ray, write_config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    config = write_config(tmp_path, root=str(tmp_path / "file" / "root"))
    assert main(["doctor", config]) == 1
    text = capsys.readouterr().out
    assert "refused" in text and "to mend: " in text and "a part of the path is a file" in text


def test_doctor_compares_versions_with_those_of_the_driver(local_ray, write_config, tmp_path, monkeypatch):
    experiment = load_experiment(write_config(tmp_path))
    reports = examine(experiment)
    assert disagreements(reports, experiment) == []
    real = __import__("stl_ray.runtime.submission.node_check", fromlist=["version"]).version
    monkeypatch.setattr(
        "stl_ray.runtime.submission.node_check.version", lambda name: "0.0.9" if name == "pyarrow" else real(name)
    )
    (problem,) = disagreements(reports, experiment)
    assert re.fullmatch(r"\S+: pyarrow is [\d.]+, and 0\.0\.9 here", problem)


def test_ingest_says_what_it_leaves_out_and_what_comes_twice_and_a_resume_knows_it_too(
    local_ray, write_config, tmp_path, capsys
):
    for split, names in {
        "train": ["a/1.png", "b/2.png", "a/notes.txt", "3.jpg"],
        "test": ["a/1.png", "b/2.png"],
    }.items():
        for name in names:
            (tmp_path / split / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / split / name).write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "train" / "b" / "up").symlink_to("..")
    sources = {split: {"format": "folder", "path": str(tmp_path / split)} for split in ("train", "test")}
    config = write_config(tmp_path, ingest=sources)
    line = (
        "ingest: left out of train 1 .txt, 1 .jpg beside the classes, 1 link (b/up); 2 of 2 test images are also training "
        "images, pixel by pixel: a/1.png, b/2.png; 1 of train and 1 of test repeat an image of their split"
    )
    assert main(["ingest", config]) == 0
    assert capsys.readouterr().out.splitlines() == ["ingest: 4 images, 0 quarantined", line]
    (tmp_path / "train" / "a" / "notes.txt").unlink()
    assert main(["ingest", config]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [line]
    assert main(["status", str(tmp_path / "root")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == line
    sessions = [json.loads(path.read_text()) for path in (tmp_path / "root" / "jobs" / "ingest").iterdir()]
    assert [f"ingest: {session['remark']}" for session in sessions] == [line, line]
    counts = {"in_both": 2, "first_ids": ["a/1.png", "b/2.png"], "test": 2, "repeats_in_train": 1, "repeats_in_test": 1}
    assert [session["identical"] for session in sessions] == [counts, counts]
