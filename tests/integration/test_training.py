"""`train` on Ray: workers and drivers that die, what no repetition mends, elastic workers, training behind a defense."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
import torch
from safetensors.torch import load_file

from stl_ray import QuasiNaturalSpace
from stl_ray.cli import main
from stl_ray.csc import Dictionary
from stl_ray.models import load
from stl_ray.pipeline.train.tensorboard import EVENTS, event_file
from stl_ray.runtime.progress_actor import make_board
from stl_ray.runtime.ray_train import Workers, fit
from stl_ray.store import Storage

pytestmark = pytest.mark.ray

EPOCHS = 12
TWO_WORKERS = {"epochs": EPOCHS, "batch_size": 32, "workers": 2, "ema": 0.9}
ALONE = [{"name": "vanilla", "architecture": "small_cnn"}]


def rows_of(root: Path, name: str = "vanilla") -> list[dict]:
    """The curve without its times."""
    path = root / "train" / name / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    timed = ("seconds", "images_per_second", "data_wait")
    return [{key: value for key, value in json.loads(line).items() if key not in timed} for line in lines]


def training_workers() -> list[int]:
    """The processes of Ray Train's workers on this Ray."""
    raylet = ray._private.worker._global_node.all_processes["raylet"][0].process.pid
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if parent == raylet and b"TrainWorker" in command:
            found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def undisturbed(ingested, write_config, tmp_path_factory) -> Path:
    """The root of an experiment whose classifier was trained by two workers."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(ingested / "ingest", folder / "root" / "ingest")
    assert main(["train", write_config(folder, train=TWO_WORKERS, classifiers=ALONE)]) == 0
    return folder / "root"


def test_identity_what_a_training_leaves(tiny):
    folder = tiny / "train" / "vanilla"
    assert [row["epoch"] for row in rows_of(tiny)] == [1, 2]
    meta = json.loads((folder / "model.json").read_text())["meta"]
    assert meta["class_counts"] == [12] * 10 and meta["config"]["ema"] == 0.9
    assert meta["metrics"]["validation_accuracy"] == rows_of(tiny)[-1]["validation_accuracy"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert (folder / EVENTS).stat().st_size == len(event_file(rows))
    best = json.loads((folder / "best" / "model.json").read_text())["meta"]["metrics"]
    assert best["validation_accuracy"] == max(row["validation_accuracy"] for row in rows_of(tiny))
    assert load(str(folder)).architecture == load(str(folder / "best")).architecture == "small_cnn"


@pytest.mark.faults
def test_certificate_fewer_workers_than_asked_for_go_on_where_that_is_allowed(images_in_root, write_config, tmp_path):
    train = {**TWO_WORKERS, "workers": 5, "min_workers": 1, "epochs": 2, "loaders": 1, "validate_every": 0}
    config = write_config(tmp_path, train=train, classifiers=ALONE)
    assert main(["train", config]) == 0
    assert [row["epoch"] for row in rows_of(tmp_path / "root")] == [1, 2]
    assert not (tmp_path / "root" / "train" / "vanilla" / "best").exists()  # nothing says which was


NEVER_ENDING = """
import sys, time
from pathlib import Path
import ray
from stl_ray.runtime.progress_actor import make_board
from stl_ray.runtime.ray_train import Workers, fit
from stl_ray.store import Storage

folder = sys.argv[1]

def work(_):
    Path(folder, "begun").touch()
    time.sleep(600)

ray.init(log_to_driver=False)
storage = Storage.open(folder)
fit(work, {"board": make_board()}, Workers(2, 1, False, least=1), name="vanilla", storage=storage, identity={})
"""


@pytest.mark.faults
def test_invariant_elastic_training_does_not_wait_for_what_a_killed_driver_had_reserved(local_ray, tmp_path):
    """Ray alone keeps the reservation for three minutes."""
    command = [sys.executable, "-c", NEVER_ENDING, str(tmp_path)]
    driver = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": local_ray}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (tmp_path / "begun").exists():
        assert driver.poll() is None and time.monotonic() < deadline, driver.stderr.read().decode()
        time.sleep(0.1)
    driver.kill()
    driver.wait()

    def train():
        settings, storage = {"board": make_board()}, Storage.open(str(tmp_path))
        fit(lambda _: None, settings, Workers(2, 1, False, least=1), name="vanilla", storage=storage, identity={})

    ray.get(ray.remote(num_cpus=0)(train).remote(), timeout=100)


@pytest.mark.faults
def test_invariant_deaths_of_a_worker_and_of_the_driver_within_an_epoch_change_no_figure(
    undisturbed, images_in_root, local_ray, write_config, tmp_path
):
    config = write_config(tmp_path, train=TWO_WORKERS, classifiers=ALONE)
    command = [sys.executable, "-m", "stl_ray.cli", "train", config]
    driver = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": local_ray}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240

    def wait_for(epochs):
        while len(rows_of(tmp_path / "root")) < epochs and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert driver.poll() is None, driver.stderr.read().decode()

    wait_for(3)
    first = training_workers()
    os.kill(first[-1], 9)
    wait_for(6)
    assert not set(training_workers()) & set(first)  # it went on by other workers
    driver.kill()
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == -9, errors.decode()
    assert not (tmp_path / "root" / "train" / "vanilla" / "model.json").exists()
    assert main(["train", config]) == 0
    assert rows_of(tmp_path / "root") == [
        pytest.approx(row, rel=1e-5) for row in rows_of(undisturbed)
    ]  # the same sums: to the bit, where gloo adds in one order
    expected, found = (load(str(root / "train" / "vanilla")) for root in (undisturbed, tmp_path / "root"))
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.faults
def test_refuses_a_loss_that_is_not_finite_once_and_keeps_the_last_good_checkpoint(
    images_in_root, write_config, tmp_path, capsys
):
    # Weights grow some thousandfold at every step, past float32 in the second epoch.
    config = write_config(
        tmp_path,
        train={**TWO_WORKERS, "learning_rate": 1.0, "weight_decay": 2000.0, "warmup": 0.0},
        classifiers=ALONE,
    )
    assert main(["train", config]) == 1
    error = capsys.readouterr().err
    assert "TrainingError: epoch 2 step " in error and "train/000" in error and "learning rate" in error
    folder = tmp_path / "root" / "train" / "vanilla"
    assert not (folder / "model.json").exists()
    assert [row["epoch"] for row in rows_of(tmp_path / "root")] == [1]
    (checkpoint,) = folder.glob("checkpoint-*")
    state = load_file(checkpoint)
    assert state["epoch"] == 1 and all(tensor.isfinite().all() for tensor in state.values())


def test_refuses_more_workers_than_fit_with_the_arithmetic(images_in_root, write_config, tmp_path, capsys):
    config = write_config(tmp_path, train={**TWO_WORKERS, "workers": 5, "epochs": 1}, classifiers=ALONE)
    assert main(["train", config]) == 2
    assert "train.workers: the cluster cannot hold that many workers; expected at most 2" in capsys.readouterr().err


@pytest.mark.faults
def test_certificate_a_classifier_trains_behind_its_defense(images_in_root, write_config, tmp_path):
    """Clean shards, T in every step, attacked through it."""
    adversarial = {"method": "fgsm", "dissimilarity": 0.05, "gradient": "exact"}
    train = {"epochs": 1, "batch_size": 60, "adversarial": adversarial}
    classifiers = [{"name": "vanilla", "architecture": "small_cnn", "retrain": {"projection": "on_the_fly"}}]
    given = [{"name": "given", "load": str(tmp_path / "given")}]
    config = write_config(
        tmp_path, train=train, classifiers=classifiers, spaces=given, defenses=[{"name": "stl", "defense": "stl"}]
    )
    filters = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    filters = torch.nn.functional.normalize((filters - filters.mean((2, 3), keepdim=True)).flatten(1), dim=1)
    space = QuasiNaturalSpace.from_dictionary(Dictionary(filters.reshape(8, 3, 5, 5), 0.2))
    space.save(str(tmp_path / "given"))
    assert main(["train", config]) == 0
    meta = json.loads((tmp_path / "root" / "train" / "vanilla-for-stl" / "model.json").read_text())["meta"]
    assert meta["trained_on"] == "ingest/train"
    assert meta["identity"]["defense"] == meta["defense"] is not None
    assert rows_of(tmp_path / "root", "vanilla-for-stl")[0]["validation_loss"] is not None
    with pytest.warns(UserWarning, match="was trained on clean images"):
        load(str(tmp_path / "root" / "train" / "vanilla"), space=space)
