"""A cluster of three nodes, real raylets: nodes, workers and drivers are killed, and nothing is lost or doubled."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from stl_ray.cli import main
from stl_ray.store import Dataset, verify

pytestmark = [pytest.mark.ray, pytest.mark.slow]

IMAGES = 600

# Slow enough to be killed in the middle.
SLOWLY = {
    "ingest": {
        "train": {"format": "photographs", "limit": IMAGES},
        "test": {"format": "photographs", "limit": 10},
        "shard_size": 12,
    },
    "stl": {"method": "admm", "accuracy": "exact"},
    "defenses": [{"name": "stl", "defense": "stl"}],
    "project": {"splits": ["train"]},
    "ray": {},
}


class Nodes:
    """The cluster; a killed node is replaced before the next test."""

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
        self.cluster.remove_node(node, allow_graceful=False)

    def kill_actor(self) -> bool:
        """Kill one worker that makes shards; whether there was one."""
        for node in [self.cluster.head_node, *self.cluster.worker_nodes]:
            for process in psutil.Process(_raylet(node)).children(recursive=True):
                if _title(process).startswith("ray::MapWorker"):
                    process.kill()
                    return True
        return False


def _raylet(node) -> int:
    return node.all_processes["raylet"][0].process.pid


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


class Project:
    """A root on which `stl-ray project` runs as a driver of its own."""

    def __init__(self, nodes: Nodes, prepared: Path, config: str) -> None:
        self.run = prepared / "project" / "stl-train"
        self._nodes, self._config = nodes, config
        self._log = (prepared.parent / "driver.log").open("ab")

    def start(self) -> subprocess.Popen:
        """The driver."""
        environment = {**os.environ, "RAY_ADDRESS": self._nodes.cluster.address}
        command = [sys.executable, "-m", "stl_ray.cli", "project", self._config]
        return subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log)

    def wait_for(self, receipts: int, driver: subprocess.Popen) -> None:
        """Wait until that many shards are done."""
        deadline = time.monotonic() + 120
        while len(list(self.run.glob("done/*.json"))) < receipts:
            assert driver.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        """What the drivers had to say."""
        return Path(self._log.name).read_text()


@pytest.fixture(scope="module")
def prepared(tiny, write_config, tmp_path_factory) -> Path:
    """A folder with a root that has what `project` needs: images in many small shards, and a space."""
    folder = tmp_path_factory.mktemp("prepared")
    assert main(["ingest", write_config(folder, **SLOWLY)]) == 0
    shutil.copytree(tiny / "space", folder / "root" / "space")
    return folder / "root"


@pytest.fixture
def project(nodes, prepared, write_config, tmp_path) -> Callable[[str], Project]:
    """Makes a root on which to project, on a cluster that has all its nodes."""

    def make(name: str) -> Project:
        shutil.copytree(prepared, tmp_path / name / "root")
        nodes.fill()
        return Project(nodes, tmp_path / name / "root", write_config(tmp_path / name, **SLOWLY))

    return make


@pytest.fixture(scope="module")
def undisturbed(nodes, prepared, write_config, tmp_path_factory) -> list:
    """The manifest's parts of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(prepared, folder / "root")
    ended = Project(nodes, folder / "root", write_config(folder, **SLOWLY))
    assert ended.start().wait(timeout=180) == 0, ended.log()
    return Dataset.open(str(ended.run)).manifest["parts"]


def _sound(project: Project, undisturbed: list) -> None:
    counts = verify(str(project.run))
    assert (counts["rows"], counts["quarantined"]) == (IMAGES, 0), project.log()
    assert Dataset.open(str(project.run)).manifest["parts"] == undisturbed


def test_invariant_a_killed_node_costs_nothing(nodes, project, undisturbed):
    disturbed = project("node")
    driver = disturbed.start()
    disturbed.wait_for(8, driver)
    nodes.kill_node()
    assert driver.wait(timeout=180) == 0, disturbed.log()
    _sound(disturbed, undisturbed)


def test_invariant_actors_killed_several_times_cost_nothing(nodes, project, undisturbed):
    disturbed = project("actors")
    driver = disturbed.start()
    killed = 0
    while driver.poll() is None:
        disturbed_enough = killed == 5
        killed += 0 if disturbed_enough else nodes.kill_actor()
        time.sleep(2)
    assert killed == 5
    assert driver.wait(timeout=180) == 0, disturbed.log()
    _sound(disturbed, undisturbed)


def test_invariant_a_node_actors_and_the_driver_killed_in_one_run_cost_nothing(nodes, project, undisturbed):
    disturbed = project("all")
    driver = disturbed.start()
    disturbed.wait_for(5, driver)
    assert nodes.kill_actor()
    disturbed.wait_for(10, driver)
    nodes.kill_node()
    assert nodes.kill_actor()
    disturbed.wait_for(20, driver)
    driver.kill()
    driver.wait()
    assert not (disturbed.run / "MANIFEST.json").exists()

    again = disturbed.start()
    disturbed.wait_for(25, again)
    nodes.kill_actor()
    assert again.wait(timeout=180) == 0, disturbed.log()
    _sound(disturbed, undisturbed)
