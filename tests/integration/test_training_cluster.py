"""Training on a cluster whose nodes go: killed, or taken away after an announcement, as spot machines are."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2
from safetensors import SafetensorError, safe_open

from stl_ray.config import load_experiment
from stl_ray.models import build_classifier, load
from stl_ray.store import Dataset
from stl_ray.training import cached_images, train_classifier

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS = 60

# 120 steps an epoch, so that an announcement, which Ray looks for every five seconds, is heard within one.
TRAIN = {"epochs": EPOCHS, "batch_size": 1, "validate_every": 0, "learning_rate": 0.002}


@pytest.fixture
def cluster():
    """A head without CPUs, and two nodes of one."""
    quick = {
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 3,
        "health_check_initial_delay_ms": 500,
    }
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    started = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        started.add_node(num_cpus=1)
    yield started
    started.shutdown()


def raylet_of(node) -> int:
    return node.all_processes["raylet"][0].process.pid


def node_that_trains(cluster: Cluster):
    """The node with Ray Train's worker."""
    for node in cluster.worker_nodes:
        for process in psutil.Process(raylet_of(node)).children(recursive=True):
            try:
                if any("TrainWorker" in part for part in process.cmdline()):
                    return node
            except psutil.Error:
                continue
    raise AssertionError("no worker trains")


def announce(cluster: Cluster, node, seconds: float) -> None:
    """What a cloud's notice becomes in Ray: the node is drained by a deadline."""
    client = ray._raylet.GcsClient(address=cluster.address)
    deadline = int((time.time() + seconds) * 1000)
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, message = client.drain_node(node.node_id, reason, "spot", deadline)
    assert accepted, message


def undisturbed(root: Path, config: str):
    """The same training in this process."""
    experiment = load_experiment(config)
    dataset = Dataset.open(str(root / "ingest" / "train"))
    with cached_images(dataset, str(root.parent)) as images:
        classifier = build_classifier("small_cnn", images.class_names, seed=experiment.seed)
        *_, last = train_classifier(classifier, images, experiment.train, seed=experiment.seed)
    return classifier, last


def step_kept(folder: Path) -> int:
    """The step within an epoch at which the checkpoint was made; 0 between epochs, and where there is none."""
    for checkpoint in folder.glob("checkpoint-*.safetensors"):
        with suppress(OSError, SafetensorError), safe_open(checkpoint, "pt") as state:
            return int(state.get_tensor("step"))
    return 0


@pytest.mark.parametrize("how", ["killed", "announced"])
def test_invariant_a_node_that_goes_changes_no_figure(how, cluster, write_config, tmp_path):
    config = write_config(tmp_path, train=TRAIN, classifiers=[{"name": "vanilla", "architecture": "small_cnn"}])
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    command = [sys.executable, "-m", "stl_ray.cli"]
    assert subprocess.run([*command, "ingest", config], env=environment, check=False).returncode == 0
    log = (tmp_path / "driver.log").open("wb")
    driver = subprocess.Popen([*command, "train", config], env=environment, stdout=log, stderr=log)
    metrics = tmp_path / "root" / "train" / "vanilla" / "metrics.jsonl"
    deadline = time.monotonic() + 150
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 3:
        assert driver.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
        time.sleep(0.05)
    node = node_that_trains(cluster)
    if how == "announced":
        announce(cluster, node, 60)
        while not step_kept(metrics.parent):
            assert driver.poll() is None and time.monotonic() < deadline, "no checkpoint within an epoch"
            time.sleep(0.01)
    os.kill(raylet_of(node), 9)
    cluster.remove_node(node, allow_graceful=False)
    assert driver.wait(timeout=200) == 0, Path(log.name).read_text()
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    classifier, last = undisturbed(tmp_path / "root", config)
    assert rows[-1]["loss"] == pytest.approx(last.loss, rel=1e-9)
    found = load(str(metrics.parent))
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
