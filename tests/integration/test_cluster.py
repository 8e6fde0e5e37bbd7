"""A cluster of three nodes, real raylets: nodes, workers and drivers die or freeze, and nothing is lost or doubled."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from stl_ray.store import Dataset, verify

pytestmark = [pytest.mark.ray, pytest.mark.slow]

IMAGES = 400

# Slow enough to be killed in the middle.
SLOWLY = {
    "ingest": {
        "train": {"format": "photographs", "limit": IMAGES},
        "test": {"format": "photographs", "limit": 10},
        "shard_size": 10,
    },
    "solver": {"method": "admm"},
    "defenses": [{"name": "stl", "defense": "stl", "options": {"accuracy": "exact"}}],
    "project": {"splits": ["train"]},
    "ray": {},
}


def slowly(folder: Path) -> dict:
    """The keys of an experiment in a folder, with the space of its root."""
    return {**SLOWLY, "spaces": [{"name": "given", "load": str(folder / "root" / "given")}]}


class Nodes:
    """The cluster; a node that died is replaced before the next test."""

    def __init__(self) -> None:
        quick = {
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 3,
            "health_check_initial_delay_ms": 500,
        }
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": quick}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.fill()

    def fill(self) -> None:
        """Have two more nodes of one CPU each."""
        while len(self.cluster.worker_nodes) < 2:
            self.cluster.add_node(num_cpus=1)

    def kill_node(self) -> None:
        """Kill the raylet of a node, and with it all of its workers."""
        node = next(iter(self.cluster.worker_nodes))
        os.kill(_raylet(node), 9)
        self.remove(node)

    def remove(self, node) -> None:
        """Kill what is left of a node."""
        self.cluster.remove_node(node, allow_graceful=False)

    def kill_actor(self) -> bool:
        """Kill one worker that makes shards; whether there was one."""
        found = [actor for node in [self.cluster.head_node, *self.cluster.worker_nodes] for actor in _actors(node)]
        if found:
            random.choice(found).kill()
        return bool(found)


def _raylet(node) -> int:
    return node.all_processes["raylet"][0].process.pid


def _actors(node) -> list[psutil.Process]:
    return [p for p in psutil.Process(_raylet(node)).children(recursive=True) if _title(p).startswith("ray::MapWorker")]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def nodes():
    started = Nodes()
    yield started
    started.cluster.shutdown()


class Job:
    """A root on which `stl-ray` runs as a driver of its own."""

    def __init__(self, nodes: Nodes, root: Path, config: str) -> None:
        self.run = root / "project" / "stl-train"
        self._nodes, self._config = nodes, config
        self._log = (root.parent / "driver.log").open("ab")

    def start(self, job: str = "project") -> subprocess.Popen:
        """The driver."""
        environment = {**os.environ, "RAY_ADDRESS": self._nodes.cluster.address}
        command = [sys.executable, "-m", "stl_ray.cli", job, self._config]
        return subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log)

    def receipts(self) -> dict[str, dict]:
        """The receipts so far, by shard."""
        return {path.stem: json.loads(path.read_text()) for path in self.run.glob("done/*.json")}

    def attempts(self) -> list[tuple[str, dict]]:
        """Shard and worker of every attempt."""
        return [(path.stem, json.loads(path.read_text())) for path in self.run.glob("attempts/0*")]

    def wait_for(self, happened: Callable[[], bool], driver: subprocess.Popen) -> None:
        """Wait until something has happened while the driver is at work."""
        deadline = time.monotonic() + 120
        while not happened():
            assert driver.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def wait_for_receipts(self, count: int, driver: subprocess.Popen) -> None:
        """Wait until that many shards are done."""
        self.wait_for(lambda: len(self.receipts()) >= count, driver)

    def log(self) -> str:
        """What the drivers had to say."""
        return Path(self._log.name).read_text()


@pytest.fixture(scope="module")
def prepared(nodes, write_config, random_space, tmp_path_factory) -> Path:
    """A root that has what `project` needs: images in many small shards, and a space."""
    folder = tmp_path_factory.mktemp("prepared")
    ingest = Job(nodes, folder / "root", write_config(folder, **slowly(folder)))
    assert ingest.start("ingest").wait(timeout=120) == 0, ingest.log()
    random_space(folder / "root", filters=16, side=8)
    return folder / "root"


@pytest.fixture
def project(nodes, prepared, write_config, tmp_path) -> Job:
    """A root on which to project, on a cluster that has all its nodes."""
    shutil.copytree(prepared, tmp_path / "root")
    nodes.fill()
    return Job(nodes, tmp_path / "root", write_config(tmp_path, **slowly(tmp_path)))


@pytest.fixture(scope="module")
def undisturbed(nodes, prepared, write_config, tmp_path_factory) -> list:
    """The manifest's parts of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(prepared, folder / "root")
    ended = Job(nodes, folder / "root", write_config(folder, **slowly(folder)))
    assert ended.start().wait(timeout=180) == 0, ended.log()
    return Dataset.open(str(ended.run)).manifest["parts"]


def _sound(job: Job, undisturbed: list) -> None:
    counts = verify(str(job.run))
    assert (counts["rows"], counts["quarantined"], counts["orphans"]) == (IMAGES, 0, 0), job.log()
    assert Dataset.open(str(job.run)).manifest["parts"] == undisturbed


def test_invariant_a_killed_node_costs_nothing(nodes, project, undisturbed):
    driver = project.start()
    project.wait_for_receipts(8, driver)
    nodes.kill_node()
    assert driver.wait(timeout=180) == 0, project.log()
    _sound(project, undisturbed)
    # The shards that its workers had in hand are not charged with it.
    assert {receipt["attempt"] for receipt in project.receipts().values()} == {1}


def test_invariant_a_node_back_from_the_dead_costs_nothing(nodes, project, undisturbed):
    node = next(iter(nodes.cluster.worker_nodes))
    driver = project.start()

    def in_hand() -> set[str]:
        """The shards that its worker has not done yet."""
        mine = {str(actor.pid) for actor in _actors(node)}
        return {shard for shard, worker in project.attempts() if worker["pid"] in mine} - project.receipts().keys()

    project.wait_for(in_hand, driver)
    processes = [psutil.Process(_raylet(node)), *psutil.Process(_raylet(node)).children(recursive=True)]
    for process in processes:
        process.suspend()
    late = in_hand()
    assert driver.wait(timeout=180) == 0, project.log()
    parts = {shard: project.run / project.receipts()[shard]["part"] for shard in late}
    written = {shard: part.stat().st_mtime_ns for shard, part in parts.items()}
    # Its worker goes on first, and publishes what it had in hand; its raylet would end it.
    for process in processes[1:]:
        process.resume()
    deadline = time.monotonic() + 60
    while not any(part.stat().st_mtime_ns > written[shard] for shard, part in parts.items()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    nodes.remove(node)
    _sound(project, undisturbed)
    assert {receipt["attempt"] for receipt in project.receipts().values()} == {1}


def test_invariant_actors_killed_several_times_cost_nothing(nodes, project, undisturbed):
    driver = project.start()
    killed = 0
    while driver.poll() is None:
        killed += killed < 5 and nodes.kill_actor()
        time.sleep(2)
    assert killed == 5
    assert driver.wait() == 0, project.log()
    _sound(project, undisturbed)


def test_invariant_a_killed_driver_costs_nothing(nodes, project, undisturbed):
    driver = project.start()
    project.wait_for_receipts(8, driver)
    driver.kill()
    driver.wait()
    before = project.receipts()
    assert not (project.run / "MANIFEST.json").exists()
    assert project.start().wait(timeout=180) == 0, project.log()
    _sound(project, undisturbed)
    assert before.items() <= project.receipts().items()


def test_invariant_a_node_actors_and_the_driver_killed_in_one_run_cost_nothing(nodes, project, undisturbed):
    driver = project.start()
    project.wait_for_receipts(4, driver)
    assert nodes.kill_actor()
    project.wait_for_receipts(8, driver)
    nodes.kill_node()
    assert nodes.kill_actor()
    project.wait_for_receipts(16, driver)
    driver.kill()
    driver.wait()
    assert not (project.run / "MANIFEST.json").exists()

    again = project.start()
    project.wait_for_receipts(20, again)
    assert nodes.kill_actor()
    assert again.wait(timeout=180) == 0, project.log()
    _sound(project, undisturbed)
