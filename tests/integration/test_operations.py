"""The verbs of operation on a real Ray: dry runs that write nothing and are not far off, and the check-up of nodes."""

import re
import shutil

import pytest

from stl_ray.cli import JOBS, main
from stl_ray.config import load_experiment
from stl_ray.pipeline.estimate import estimate
from stl_ray.runtime.submission.node_check import disagreements, examine

pytestmark = pytest.mark.ray


def _files(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


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
    for folder in ("ingest", "space"):
        shutil.copytree(tiny / folder, tmp_path / "root" / folder)
    found = estimate("project", load_experiment(write_config(tmp_path)))
    assert not (tmp_path / "root" / "project").exists()
    made = sum(path.stat().st_size for path in (tiny / "project").glob("*/parts/*"))
    assert (sum(step.left for step in found.steps), sum(step.shards for step in found.steps)) == (3 * 160, 3 * 8)
    # A shard of twenty rows has a larger share of Parquet's own bytes than the sample.
    assert found.bytes == pytest.approx(made, rel=0.3)
    assert found.seconds > 0


@pytest.mark.parametrize(("job", "steps"), [("fit", 6), ("train", 4)])
def test_a_dry_run_of_learning_counts_what_would_be_learned(tiny, write_config, tmp_path, job, steps):
    for folder in ("ingest", "space", "project"):
        shutil.copytree(tiny / folder, tmp_path / "root" / folder)
    found = estimate(job, load_experiment(write_config(tmp_path)))
    assert len(found.steps) == steps
    assert all(step.left == step.total > 0 for step in found.steps)
    assert found.seconds > 0 and found.bytes > 0
    assert not (tmp_path / "root" / job).exists()


def test_a_dry_run_of_evaluate_counts_the_attacks_of_the_tiers_and_their_checks(tiny, write_config, tmp_path, capsys):
    for folder in ("ingest", "space", "train", "attack"):
        shutil.copytree(tiny / folder, tmp_path / "root" / folder)
    assert main(["evaluate", write_config(tmp_path), "--dry-run"]) == 0
    text = capsys.readouterr().out
    for defense in ("jpeg", "stl", "stl_cluster"):
        for part in ("attack", "checks"):
            assert re.search(rf"evaluate/{defense}-under-{part} +1 +8 +8 +images .* <= ", text)
            assert re.search(rf"evaluate/{defense}-under-{part}: for each image \d+ forward passes, \d+ backward", text)
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
