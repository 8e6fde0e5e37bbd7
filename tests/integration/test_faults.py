"""Drivers and workers that die, disks that refuse: nothing is lost, nothing comes twice, and failures are not success."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from stl_ray import QuasiNaturalSpace
from stl_ray.cli import main
from stl_ray.config import load_experiment
from stl_ray.errors import ConfigError, IncompleteRunError, StorageError
from stl_ray.models import build_classifier, load
from stl_ray.stages.runner import PlannedRun, ShardJob, run_shards
from stl_ray.stages.works import ShardOutput, TableWork
from stl_ray.store import Dataset, PlannedShard, verify
from stl_ray.training import packed, train_classifier

pytestmark = pytest.mark.ray

PLAN = [PlannedShard(number=n, source={"start": 10 * n}, rows=10, digest=str(n)) for n in range(6)]


@pytest.fixture
def prepared(tiny, tmp_path):
    """A root that has what `project` needs of the tiny experiment, and nothing more."""
    for folder in ("ingest", "space"):
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

    class Work(TableWork):
        def table(self, run, shard):
            numbers = range(shard.source["start"], shard.source["start"] + shard.rows)
            images = [{"bytes": f"bytes of {number}".encode()} for number in numbers]
            return pa.table({"id": [f"id-{number}" for number in numbers], "image": images})

        def make(self, run, shard, table):
            return ShardOutput(make(shard, table))

    return Work


def _experiment(write_config, folder):
    return load_experiment(write_config(folder))


def test_invariant_a_worker_that_dies_once_costs_nothing(local_ray, write_config, tmp_path):
    marker = tmp_path / "died"

    def dies_once(shard, table):
        if shard.number == 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return table

    planned = [PlannedRun("stage/name", PLAN, {})]
    (manifest,) = run_shards(ShardJob("stage", planned, _work(dies_once)), _experiment(write_config, tmp_path))
    assert marker.exists()
    assert manifest["rows"] == 60
    root = tmp_path / "root" / "stage" / "name"
    ids = [i for table in Dataset.open(str(root)).tables() for i in table["id"].to_pylist()]
    assert ids == [f"id-{number}" for number in range(60)]


def test_invariant_a_row_that_kills_its_worker_is_set_aside_and_its_mates_are_kept(local_ray, write_config, tmp_path):
    def poisoned(shard, table):
        if "id-43" in table["id"].to_pylist():
            os.kill(os.getpid(), signal.SIGKILL)
        return table

    job = ShardJob("stage", [PlannedRun("stage/name", PLAN, {})], _work(poisoned))
    experiment = load_experiment(write_config(tmp_path), ["max_quarantined=0.05"])
    (manifest,) = run_shards(job, experiment)
    assert (manifest["rows"], manifest["quarantined"], manifest["reasons"]) == (59, 1, {"kills_worker": 1})
    root = tmp_path / "root" / "stage" / "name"
    ids = [i for table in Dataset.open(str(root)).tables() for i in table["id"].to_pylist()]
    assert ids == [f"id-{number}" for number in range(60) if number != 43]
    (set_aside,) = pq.read_table(next((root / "quarantine").iterdir())).to_pylist()
    assert (set_aside["id"], set_aside["image"]) == ("id-43", b"bytes of 43")


def test_refuses_to_blame_images_where_every_one_kills_its_worker(local_ray, write_config, tmp_path):
    def sick(shard, table):
        if shard.number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return table

    plan = [replace(shard, rows=2) for shard in PLAN]
    job = ShardJob("stage", [PlannedRun("stage/name", plan, {})], _work(sick))
    with pytest.raises(IncompleteRunError, match=r"stage/name shard 4: .*every image kills its worker"):
        run_shards(job, _experiment(write_config, tmp_path))
    done = sorted((tmp_path / "root" / "stage" / "name" / "done").iterdir())
    assert [path.stem for path in done] == ["00000", "00001", "00002", "00003", "00005"]


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


def test_invariant_training_continues_after_its_driver_is_killed(local_ray, write_config, tmp_path):
    config = write_config(tmp_path, train={"epochs": 30, "batch_size": 32, "retrain": False})
    assert main(["ingest", config]) == 0
    metrics = tmp_path / "root" / "train" / "vanilla" / "metrics.jsonl"
    command = [sys.executable, "-m", "stl_ray.cli", "train", config]
    driver = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": local_ray}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and driver.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= 7:
            break
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    assert not (metrics.parent / "model.json").exists(), driver.stderr.read().decode()
    before = metrics.read_text().splitlines()

    assert main(["train", config]) == 0
    after = metrics.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in after] == list(range(1, 31))
    assert after[:3] == before[:3]  # kept: at most the last reports before the kill are trained again

    # The undisturbed training, in this process: the same weights, bit for bit.
    continued = load(str(metrics.parent))
    undisturbed = build_classifier("small_cnn", continued.class_names, seed=1)
    experiment = load_experiment(config)
    with packed(Dataset.open(str(tmp_path / "root" / "ingest" / "train")), str(tmp_path)) as images:
        for _ in train_classifier(undisturbed, images, experiment.train, seed=1):
            pass
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, continued.state_dict()[name]), name


def test_invariant_a_new_fit_replaces_the_space_of_an_old_one(local_ray, write_config, tmp_path):
    config = write_config(tmp_path)
    assert main(["ingest", config]) == 0
    for lmbda in (0.2, 0.1):
        assert main(["fit", config, f"fit.dictionary.lmbda={lmbda}"]) == 0
        assert QuasiNaturalSpace.load(str(tmp_path / "root" / "space")).lmbda == lmbda
        shutil.rmtree(tmp_path / "root" / "fit")  # as the refusal of other settings advises


def test_refuses_an_unreadable_space(local_ray, prepared, write_config, tmp_path, capsys):
    path = prepared / "space" / "space.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["project", write_config(tmp_path)]) == 1
    assert "ArtifactError" in capsys.readouterr().err


def test_refuses_a_root_that_cannot_be_written_to_before_any_work(write_config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["ingest", write_config(tmp_path, root=str(tmp_path / "file" / "root"))]) == 1
    assert "StorageError" in capsys.readouterr().err


def test_exit_code_of_too_much_quarantine(local_ray, write_config, tmp_path, capsys):
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"broken")
    source = {"format": "folder", "path": str(tmp_path / "images")}
    config = write_config(tmp_path, ingest={"train": source, "test": source})
    assert main(["ingest", config]) == 1
    assert "too many images were set aside ({'unreadable': 3})" in capsys.readouterr().err


def test_storage_errors_cross_processes_with_their_parts():
    import pickle

    error = pickle.loads(pickle.dumps(StorageError("full", item="x", expected="space", got="none")))
    assert (error.message, error.item, error.expected, error.got) == ("full", "x", "space", "none")
