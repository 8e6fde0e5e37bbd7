"""A cluster whose nodes have labels, real raylets: work keeps to the nodes that a job may use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from ray.cluster_utils import Cluster
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

pytestmark = pytest.mark.ray

INGEST = {
    "train": {"format": "photographs", "limit": 60},
    "test": {"format": "photographs", "limit": 20},
    "shard_size": 10,
}


@pytest.fixture(scope="module")
def nodes():
    """The ids of nodes by what they are: the head has no labels of its own, and a CPU that would be used without any."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    spot = cluster.add_node(num_cpus=2, labels={"cpu": "avx512", "ray.io/market-type": "spot"})
    other = cluster.add_node(num_cpus=1, labels={"cpu": "avx2"})
    yield {"address": cluster.address, "head": cluster.head_node.node_id, "spot": spot.node_id, "other": other.node_id}
    cluster.shutdown()


DRIVER = """
import contextlib, io, json, sys
from stl_ray.cli import main
from stl_ray.config import RayConfig
from stl_ray.runtime.session import ray_session

with ray_session(RayConfig()):
    for arguments in sys.stdin:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(json.loads(arguments))
        print(json.dumps([code, said.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def stl_ray(nodes):
    """Runs `stl-ray` in a process that has joined the cluster; exit code and what it said."""
    command, environment = [sys.executable, "-c", DRIVER], {**os.environ, "RAY_ADDRESS": nodes["address"]}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as driver:

        def run(*arguments: str) -> tuple[int, str]:
            print(json.dumps(arguments), file=driver.stdin, flush=True)
            code, said = json.loads(driver.stdout.readline())
            return code, said

        yield run
        driver.stdin.close()


def attempted_on(root: Path) -> set[str]:
    """The nodes whose workers took shards."""
    return {json.loads(path.read_text())["node"] for path in root.glob("ingest/*/attempts/0*")}


@pytest.mark.parametrize(
    ("ray", "where"),
    [
        ({"label_selector": {"cpu": "avx512"}}, {"spot"}),
        ({"label_selector": {"cpu": "!in(avx512, avx2)"}}, {"head"}),
        ({"label_selector": {"cpu": "amx"}, "fallback_strategy": [{"label_selector": {"cpu": "avx2"}}]}, {"other"}),
    ],
)
def test_shards_are_made_on_matching_nodes_alone(stl_ray, nodes, write_config, tmp_path, ray, where):
    code, said = stl_ray("ingest", write_config(tmp_path, ingest=INGEST, ray=ray))
    assert code == 0, said
    assert attempted_on(tmp_path / "root") == {nodes[name] for name in where}


_BOTH = {"label_selector": {"cpu": "avx2"}, "fallback_strategy": [{"label_selector": {"cpu": "avx512"}}]}


def test_identity_a_run_goes_on_with_other_labels(stl_ray, nodes, write_config, tmp_path):
    # Three actors have room on both nodes together.
    code, said = stl_ray("ingest", write_config(tmp_path, ingest=INGEST, ray={**_BOTH, "actors": 3}))
    assert code == 0, said
    assert attempted_on(tmp_path / "root") <= {nodes["spot"], nodes["other"]}
    code, said = stl_ray("ingest", write_config(tmp_path, ingest=INGEST, ray={}))
    assert code == 0, said


@pytest.mark.parametrize(
    ("ray", "expected"),
    [
        (
            {"label_selector": {"cpu": "avx2"}, "actors": 2},
            "at most 1 of 1 CPUs and 0 GPUs each, on one node each, of nodes with cpu=avx2",
        ),
        (
            {**_BOTH, "actors": 4},
            "at most 3 of 1 CPUs and 0 GPUs each, on one node each, of nodes with cpu=avx2, else cpu=avx512",
        ),
    ],
)
def test_refuses_more_actors_than_matching_nodes_hold(stl_ray, write_config, tmp_path, ray, expected):
    code, said = stl_ray("ingest", write_config(tmp_path, ingest=INGEST, ray=ray))
    assert code == 2, said
    assert f"ray.actors: the cluster cannot hold that many workers; expected {expected}; got " in said


def test_refuses_labels_that_no_node_has_as_it_joins(nodes, write_config, tmp_path):
    fallback = [{"label_selector": {"cpu": "avx512", "x": "1"}}]
    ray = {"label_selector": {"cpu": "amx"}, "fallback_strategy": fallback}
    command = [sys.executable, "-m", "stl_ray.cli", "ingest", write_config(tmp_path, ingest=INGEST, ray=ray)]
    environment = {**os.environ, "RAY_ADDRESS": nodes["address"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 2, done.stderr
    assert (
        "ray.label_selector: no node of the cluster has such labels; expected labels of its nodes: cpu=avx2, cpu=avx512, "
        "ray.io/market-type=spot; got cpu=amx, else cpu=avx512 and x=1\n"
    ) in done.stderr
    assert not (tmp_path / "root" / "ingest").exists()


def test_doctor_asks_the_nodes_that_the_job_may_use(stl_ray, write_config, tmp_path):
    _, said = stl_ray("doctor", write_config(tmp_path, ray=_BOTH))
    assert said.count("writable") == 2, said


def ran_on(address: str) -> dict[str, set[str]]:
    """The nodes of every task and actor that took CPUs, by the name of its function or class, as the cluster recorded it."""
    channel = grpc.insecure_channel(address)
    where: dict[str, set[str]] = {}
    tasks = gcs_service_pb2_grpc.TaskInfoGcsServiceStub(channel).GetTaskEvents(gcs_service_pb2.GetTaskEventsRequest())
    for task in tasks.events_by_task:
        if task.task_info.required_resources.get("CPU") and task.state_updates.node_id:
            where.setdefault(task.task_info.name, set()).add(task.state_updates.node_id.hex())
    actors = gcs_service_pb2_grpc.ActorInfoGcsServiceStub(channel).GetAllActorInfo(
        gcs_service_pb2.GetAllActorInfoRequest()
    )
    for actor in actors.actor_table_data:
        if any(resource.name.startswith("CPU") for resource in actor.resource_mapping):  # CPU_group_..., too
            where.setdefault(actor.class_name, set()).add(actor.address.node_id.hex())
    return where


@pytest.mark.slow
def test_every_kind_of_work_keeps_to_matching_nodes(stl_ray, nodes, write_config, tmp_path):
    config = write_config(
        tmp_path,
        ingest=INGEST,
        spaces=[
            {
                "name": "natural",
                "clusters": 2,
                "candidates": [2],
                "neighbours": 5,
                "autoencoder": {"epochs": 1},
                "dictionary": {"filters": 8, "images": 12, "holdout": 4, "block": 6, "iterations": 3},
            }
        ],
        classifiers=[{"name": "vanilla", "architecture": "small_cnn"}],
        train={"epochs": 1, "batch_size": 30},
        attack={"sets": [{"name": "a", "attack": "fgsm", "dissimilarity": 0.08, "budget": "dataset_mean"}]},
        ray={"actors": 2, "label_selector": {"cpu": "in(avx512, amx)"}},
    )
    earlier = ran_on(nodes["address"])
    for job in (("ingest",), ("fit", "--dry-run"), ("fit",), ("train",), ("attack",)):
        code, said = stl_ray(job[0], config, *job[1:])
        assert code == 0, said
    ran = {
        name: where for name, where in ran_on(nodes["address"]).items() if name not in earlier or where != earlier[name]
    }
    assert {where for places in ran.values() for where in places} == {nodes["spot"]}, ran
    kinds = " ".join(ran)
    # Estimates, clusters, calibrations; dictionaries, trainings, shards.
    assert {"_measure", "_find", "make_calibration", "Worker"} <= ran.keys(), kinds
    assert "Train" in kinds and "MapWorker" in kinds, kinds
