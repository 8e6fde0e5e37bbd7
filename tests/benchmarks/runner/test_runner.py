"""The benchmark of the runner counts rightly, and runs; how fast anything is, no test can tell."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stl_ray.pipeline.batches import pixels_of
from stl_ray.pipeline.purify import purify_table

pytest.importorskip("sporco")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)


@pytest.fixture
def pieces(load):
    """Pieces of 10 images each from {worker: times}."""
    Done = load("runner.rates").Done
    return lambda times: [Done(worker, at, 10) for worker, ats in times.items() for at in ats]


def test_identity_a_rate_leaves_out_the_start_and_the_end(load, pieces) -> None:
    rates = load("runner.rates")
    # Two shards a second, of which the first was long in coming and the last ones came all at once.
    done = pieces({"a": [9.0, 9.5, 10.0, 10.5, 10.6, 10.7]})
    assert rates.steady_rate(done, 3) == pytest.approx(20)
    assert rates.steady_window(done, 3) == (9.0, 10.5)
    assert rates.steady_rate(done, 1) == pytest.approx(50 / 1.7)


def test_identity_rates_of_workers_add_up_and_their_order_does_not_matter(load, pieces) -> None:
    rates = load("runner.rates")
    done = pieces({"b": [2.0, 4.0, 6.0], "a": [1.0, 2.0, 3.0]})
    assert rates.steady_rate(done, 1) == pytest.approx(10 + 5)
    assert rates.steady_rate(done[::-1], 1) == pytest.approx(15)
    assert rates.steady_window(done, 1) == (2.0, 3.0)


def test_refuses_a_rate_of_too_few_pieces(load, pieces) -> None:
    with pytest.raises(ValueError, match="3 pieces by one worker"):
        load("runner.rates").steady_rate(pieces({"a": [1.0, 2.0, 3.0]}), 3)


def test_identity_cores_are_those_of_the_workers_and_of_the_rest(load, pieces) -> None:
    used = {"a": 1.5, "b": 0.5, "raylet": 0.25, "driver": 0.25}
    assert load("runner.rates").cores_used(used, 2.0, pieces({"a": [1.0], "b": [1.0], "gone": [1.0]})) == (1.0, 0.25)


def test_identity_a_timeline_counts_whole_runs_from_their_call(load, pieces) -> None:
    timeline = load("runner.rates").Timeline(pieces({"a": [4.0, 5.0, 6.0]}), 1.0, 7.0, 1, 2.0, 0.5, 0.1)
    assert (timeline.images, timeline.whole, timeline.steady) == (30, 5.0, 10.0)
    assert (timeline.first, timeline.last) == (3.0, 1.0)
    assert timeline.cpu == pytest.approx(0.05)


def test_identity_only_the_children_of_a_process_are_watched(load) -> None:
    processes = load("runner.processes")
    parents = {"1": "0", "2": "1", "3": "2", "4": "1", "5": "9"}
    assert [name for name in parents if processes.descends(name, "2", parents)] == ["2", "3"]
    assert processes.used({"2": 1.0, "3": 5.0}, {"2": 1.5, "4": 9.0}) == {"2": 0.5}


def test_identity_rows_that_are_missing_or_doubled_are_counted(load) -> None:
    audit = load("runner.audit").count([["a", "b"], ["b", "c", "b"]], ["a", "b", "c", "d"], 9, [-9, 0])
    assert (audit.files, audit.rows, audit.doubled, audit.missing, audit.made) == (2, 5, 2, 1, 9)
    nothing = load("runner.audit").count([], ["a"], 0, [1])
    assert (nothing.files, nothing.rows, nothing.doubled, nothing.missing) == (0, 0, 0, 1)


def test_identity_ratios_are_of_one_round(load, pieces) -> None:
    page = load("runner.page")
    Timeline = load("runner.rates").Timeline

    def timeline(seconds: float) -> object:
        return Timeline(pieces({"a": [0, seconds, 2 * seconds]}), 0, 1, 1, 1, 1, 0)

    # In the second round the machine was half as fast, for all of them.
    rounds = [
        page.Round(
            {(name, n): timeline(slow * took / n) for name, took in zip(page.NAMES, (1, 2, 4), strict=True) for n in (1, 2)},
            {1: 0.01, 2: 0.02},
            files=7,
        )
        for slow in (1, 2)
    ]  # fmt: skip
    result = page.Result(32, 3, 10, "a dictionary", rounds)
    text = page.report([result], None, "command", "abc", 1.0)
    rows = {line.split(" | ")[1]: line.split(" | ") for line in text.split("## ")[1].splitlines() if "| 32 |" in line}
    # 10 images a second in the first round, 5 in the second for the bare loop; half of both for ours.
    assert rows[page.BARE][2:4] == ["7.5", "1"]
    assert rows[page.OURS][2:5] == ["3.75", "0.500 (0.500 to 0.500)", ">= 0.95"]
    assert page.ratios(result, page.OURS, 2, (page.OURS, 1), lambda run: run.steady) == [2, 2]
    assert "## Rows" not in text
    assert "| 7 |" in text


def test_identity_a_workload_is_a_finished_dataset(load, tmp_path: Path) -> None:
    workload = load("runner.workload").make_workload(tmp_path / "root", 32, shards=3, shard_size=20, data=None)
    ids = [name for table in workload.clean.tables() for name in table.column("id").to_pylist()]
    assert len(workload.parts) == 3
    assert len(ids) == len(set(ids)) == 60
    assert all(image.shape == (32, 32, 3) for table in workload.clean.tables() for image in pixels_of(table))


def test_agrees_the_bare_loop_makes_the_images_that_project_makes(load, tmp_path: Path) -> None:
    defenses = importlib.import_module("stl_ray.pipeline.defenses")
    workload = load("runner.workload").make_workload(tmp_path / "root", 32, shards=1, shard_size=70, data=None)
    table = workload.clean.read(workload.clean.parts[0])
    (defense,) = defenses.make_defenses(workload.experiment).values()
    ours = purify_table(defense, table, seed=0, exclude_self=True, device="cpu").table
    bare = load("runner.bare").purify(table, defense.space)
    assert bare.select(["id", "image"]).to_pylist() == ours.select(["id", "image"]).to_pylist()


@pytest.mark.faults
def test_identity_shards_go_through_an_actors_work_without_ray(tmp_path: Path) -> None:
    output = tmp_path / "page.md"
    ran = run("runner.gpu", "--smoke", "--output", str(output))
    assert ran.returncode == 0, ran.stderr
    assert output.read_text(encoding="utf-8").strip() == ran.stdout.strip()
    row = next(line for line in ran.stdout.splitlines() if line.startswith("| 32 |")).strip("| ").split(" | ")
    assert float(row[1]) > 0
    assert 0 <= float(row[3].rstrip("%")) < 100
    assert str(tmp_path) not in ran.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_refuses_to_time_a_gpu_that_is_not_there(load) -> None:
    with pytest.raises(SystemExit, match="there is no CUDA device; --smoke runs tiny images on the CPU"):
        load("runner.gpu").main([])


@pytest.mark.ray
@pytest.mark.slow
def test_invariant_ours_loses_and_doubles_nothing_in_the_page(tmp_path: Path) -> None:
    output = tmp_path / "page.md"
    small = ["--sizes", "32", "--shards", "8", "--images", "30", "--rounds", "1", "--audit", "20", "40"]
    ran = run("runner", *small, "--output", str(output))
    assert ran.returncode == 0, ran.stderr
    page = output.read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ") for line in page.split("## Rows")[1].splitlines() if "stl-ray project" in line
    ]
    assert len(rows) == 4
    assert all(row[2:6] == ["800", "800", "0", "0"] for row in rows)
    assert [row[-1] for row in rows] == ["0", "0", "-9, 0", "0, 0"]
    assert str(tmp_path) not in page
