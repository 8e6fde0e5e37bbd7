"""Drivers and workers that die, disks that refuse: nothing is lost, nothing comes twice, and failures are not success."""

import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stl_ray.cli import main
from stl_ray.config import load_experiment
from stl_ray.errors import ConfigError, IncompleteRunError, StorageError
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Dataset, PlannedShard, verify

pytestmark = pytest.mark.ray

PLAN = [PlannedShard(number=n, source={"start": 10 * n}, rows=10, digest=str(n)) for n in range(6)]


@pytest.fixture
def prepared(tiny, tmp_path):
    """A root that has what `project` needs of the tiny experiment, and nothing more."""
    for folder in ("ingest", "spaces"):
        shutil.copytree(tiny / folder, tmp_path / "root" / folder)
    return tmp_path / "root"


def _receipts(root):
    return list((root / "project").glob("*/done/*.json"))


def test_invariant_a_killed_driver_is_continued_to_the_same_bytes(local_ray, tiny, prepared, write_config, tmp_path):
    config = write_config(tmp_path)
    command = [sys.executable, "-m", "stl_ray.cli", "project", config]
    driver = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": local_ray}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(_receipts(prepared)) < 3 and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    done_before = len(_receipts(prepared))
    planned = len(list((tiny / "project").glob("*/done/*.json")))
    assert 3 <= done_before < planned, driver.stderr.read().decode()
    assert not list((prepared / "project").glob("*/MANIFEST.json"))

    assert main(["project", config]) == 0
    for undisturbed in sorted((tiny / "project").iterdir()):
        continued = prepared / "project" / undisturbed.name
        counts = verify(str(continued))
        assert counts["digest"] == Dataset.open(str(undisturbed)).digest, undisturbed.name


def _work(make):
    """Makes work that gives `make(shard, table)` of a table of ids."""

    class Work(TableTask):
        def table(self, run, shard):
            numbers = range(shard.source["start"], shard.source["start"] + shard.rows)
            images = [{"bytes": f"bytes of {number}".encode()} for number in numbers]
            return pa.table({"id": [f"id-{number}" for number in numbers], "image": images})

        def make(self, run, shard, table):
            return ShardOutput(make(shard, table))

    return Work


def _experiment(write_config, folder):
    return load_experiment(write_config(folder))


# A worker that nobody waits for any more: it stops where it would publish a shard, and goes on when it is told to.
LATE_WRITER = """
import json, os, signal, sys
import pyarrow as pa
from stl_ray.store import Run
from stl_ray.store.plan import read_shard
run = Run.open(sys.argv[1], "stage/name")
shard = read_shard(run.storage, 2)
table = pa.table({"id": [f"id-{number}" for number in range(20, 30)], "made": ["late"] * 10})
os.kill(os.getpid(), signal.SIGSTOP)
receipt = run.publish(shard, table, [], seconds=1, attempt=1, environment={})
with open(sys.argv[2], "w") as file:
    json.dump(receipt.part, file)
"""


def test_invariant_a_worker_that_dies_or_comes_back_from_the_dead_costs_nothing(
    local_ray, write_config, tmp_path, capsys
):
    marker, told = tmp_path / "died", tmp_path / "told"
    command = [sys.executable, "-c", LATE_WRITER, str(tmp_path / "root"), str(told)]

    def dies_once(shard, table):
        if shard.number == 2 and not marker.exists():
            late = subprocess.Popen(command, start_new_session=True)
            os.waitid(os.P_PID, late.pid, os.WSTOPPED)
            marker.write_text(str(late.pid))
            os.kill(os.getpid(), signal.SIGKILL)
        return table

    planned = [PlannedRun("stage/name", PLAN, {})]
    (manifest,) = run_shards(ShardJob("stage", planned, _work(dies_once)), _experiment(write_config, tmp_path))
    assert manifest["rows"] == 60
    root = tmp_path / "root" / "stage" / "name"
    ids = [i for table in Dataset.open(str(root)).tables() for i in table["id"].to_pylist()]
    assert ids == [f"id-{number}" for number in range(60)]

    os.kill(int(marker.read_text()), signal.SIGCONT)
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert json.loads(told.read_text()) == manifest["parts"][2]["file"]  # the first receipt won
    (orphan,) = {f"parts/{path.name}" for path in (root / "parts").iterdir()} - {p["file"] for p in manifest["parts"]}
    counts = verify(str(root))
    assert (counts["digest"], counts["orphans"]) == (manifest["digest"], 1)
    assert main(["sweep", str(root)]) == 0 and orphan in capsys.readouterr().out
    assert main(["sweep", str(root), "--delete"]) == 0
    assert not (root / orphan).exists() and verify(str(root))["orphans"] == 0


@pytest.mark.faults
def test_invariant_rows_that_kill_their_workers_are_set_aside_and_their_mates_kept(local_ray, write_config, tmp_path):
    # A segmentation fault of this very thread; one that is sent may reach another, while this one goes on.
    deaths = {"id-10": lambda: os.kill(os.getpid(), signal.SIGKILL), "id-40": lambda: ctypes.string_at(0)}

    def poisoned(shard, table):
        for name in table["id"].to_pylist():
            deaths.get(name, int)()
        return table

    plan = [replace(shard, rows=2) for shard in PLAN]
    job = ShardJob("stage", [PlannedRun("stage/name", plan, {})], _work(poisoned))
    (manifest,) = run_shards(job, load_experiment(write_config(tmp_path), ["max_quarantined=0.2"]))
    assert (manifest["rows"], manifest["quarantined"], manifest["reasons"]) == (10, 2, {"kills_worker": 2})
    root = tmp_path / "root" / "stage" / "name"
    ids = [i for table in Dataset.open(str(root)).tables() for i in table["id"].to_pylist()]
    assert ids == [f"id-{10 * shard + row}" for shard in range(6) for row in range(2) if row or shard not in (1, 4)]
    set_aside = [row for path in sorted((root / "quarantine").iterdir()) for row in pq.read_table(path).to_pylist()]
    assert [(row["id"], row["image"]) for row in set_aside] == [("id-10", b"bytes of 10"), ("id-40", b"bytes of 40")]
    # Dead with others in hand, dead alone, isolated; the others were with them at most once for each of them.
    taken = Counter(path.stem for path in (root / "attempts").iterdir())
    assert taken.pop("00001") == taken.pop("00004") == 3
    assert max(taken.values()) <= 2


@pytest.mark.faults
def test_refuses_workers_that_die_before_they_are_ready(local_ray, write_config, tmp_path):
    def dies():
        os.kill(os.getpid(), signal.SIGKILL)

    job = ShardJob("stage", [PlannedRun("stage/name", PLAN, {})], dies)
    with pytest.raises(
        IncompleteRunError, match=r"stage: the actors cannot work .*a worker died 4 times before it was"
    ):
        run_shards(job, load_experiment(write_config(tmp_path, ray={"actors": 1})))


@pytest.mark.faults
def test_refuses_a_full_disk_by_shard_then_continues(local_ray, write_config, tmp_path):
    full = tmp_path / "full"
    full.touch()

    def refused(shard, table):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # For the whole process, so one that has no other shard in hand.
        limit = 4096 if full.exists() else hard
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        return table.append_column("payload", pa.array([os.urandom(10_000) for _ in range(table.num_rows)]))

    experiment = _experiment(write_config, tmp_path)
    job = ShardJob("stage", [PlannedRun("stage/name", PLAN, {})], _work(refused))
    with pytest.raises(IncompleteRunError, match=r"shard 1: StorageError: .*larger than this process may write"):
        run_shards(job, experiment)
    full.unlink()
    (manifest,) = run_shards(job, experiment)
    assert manifest["rows"] == 60


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs root, and the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.faults
def test_refuses_a_disk_that_gets_full_then_continues_to_the_same_bytes(local_ray, small_disk, write_config, tmp_path):
    def large(shard, table):
        payload = [random.Random(name).randbytes(10_000) for name in table["id"].to_pylist()]
        return table.append_column("payload", pa.array(payload))

    job = ShardJob("stage", [PlannedRun("stage/name", PLAN, {})], _work(large))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700_000))
    experiment = load_experiment(write_config(tmp_path, root=str(small_disk / "root")))
    with pytest.raises(IncompleteRunError, match=r"shards failed:\n.*StorageError: .*: the disk is full"):
        run_shards(job, experiment)
    run = small_disk / "root" / "stage" / "name"
    assert 0 < len(list((run / "done").iterdir())) < 6
    assert not [path for path in run.rglob("*") if path.name.startswith(".tmp-")]
    ballast.unlink()
    (manifest,) = run_shards(job, experiment)
    (undisturbed,) = run_shards(job, _experiment(write_config, tmp_path / "undisturbed"))
    assert manifest["parts"] == undisturbed["parts"]
    assert verify(str(run))["digest"] == undisturbed["digest"]


@pytest.mark.faults
def test_refuses_a_second_driver_and_names_the_first(local_ray, prepared, write_config, tmp_path, capsys):
    config = write_config(tmp_path)
    command = [sys.executable, "-m", "stl_ray.cli", "project", config]
    first = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": local_ray}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not _receipts(prepared):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)
    try:
        assert main(["project", config]) == 1
        error = capsys.readouterr().err
        assert "RunBusyError" in error and f"another driver is at work here: process {first.pid} on " in error
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=120) == 0, first.stderr.read().decode()
    assert main(["project", config]) == 0


def test_refuses_more_actors_than_fit(local_ray, write_config, tmp_path):
    experiment = load_experiment(write_config(tmp_path), ["ray.actors=3"])
    planned = [PlannedRun("stage/name", PLAN, {})]
    with pytest.raises(
        ConfigError, match=r"ray\.actors: the cluster cannot hold that many workers; expected at most 2 of 1 CPUs"
    ):
        run_shards(ShardJob("stage", planned, lambda: None), experiment)


@pytest.mark.parametrize(
    ("job", "first"),
    [("fit", "ingest"), ("project", "fit"), ("train", "ingest"), ("attack", "ingest"), ("evaluate", "ingest")],
)
def test_refuses_a_job_before_its_inputs_and_names_the_missing_one(
    local_ray, write_config, tmp_path, capsys, job, first
):
    assert main([job, write_config(tmp_path)]) == 1
    assert f"run `stl-ray {first}` first" in capsys.readouterr().err


def test_refuses_an_unreadable_space(local_ray, prepared, write_config, tmp_path, capsys):
    path = prepared / "spaces" / "natural" / "space.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["project", write_config(tmp_path)]) == 1
    assert "ArtifactError" in capsys.readouterr().err


def test_refuses_a_root_that_cannot_be_written_to_before_any_work(write_config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["ingest", write_config(tmp_path, root=str(tmp_path / "file" / "root"))]) == 1
    assert "StorageError" in capsys.readouterr().err


@pytest.mark.faults
def test_exit_code_of_too_much_quarantine(local_ray, write_config, tmp_path, capsys):
    for name in ("train/a/1.png", "train/a/2.png", "train/b/3.png", "test/a/1.png", "test/b/2.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"broken")
    sources = {split: {"format": "folder", "path": str(tmp_path / "images" / split)} for split in ("train", "test")}
    config = write_config(tmp_path, ingest=sources)
    assert main(["ingest", config]) == 1
    assert "too many images were set aside ({'unreadable': 3})" in capsys.readouterr().err


def test_storage_errors_cross_processes_with_their_parts():
    import pickle

    error = pickle.loads(pickle.dumps(StorageError("full", item="x", expected="space", got="none")))
    assert (error.message, error.item, error.expected, error.got) == ("full", "x", "space", "none")
