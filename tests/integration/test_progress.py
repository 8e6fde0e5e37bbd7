"""What a job's progress leaves for those who look from elsewhere: Ray's metrics, and lines in a log."""

import re
import time
import urllib.request

import pyarrow as pa
import pytest
import ray

from stl_ray.config import load_experiment
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.shard_actor import ShardSummary
from stl_ray.runtime.shard_runner import PlannedRun, ShardJob, run_shards
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import Dataset, PlannedShard

pytestmark = pytest.mark.ray

DEADLINE_S = 60


def _metrics() -> dict[str, float]:
    """The samples of ours that Prometheus would read from this node, by name and tags other than Ray's."""
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    try:
        text = urllib.request.urlopen(url, timeout=10).read().decode()
    except OSError:
        return {}  # the agent is still starting
    found = {}
    for name, tags, value in re.findall(r"^ray_(stl_ray_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        own = [f'{key}="{tag}"' for key, tag in re.findall(r'(\w+)="([^"]*)"', tags) if key in ("job", "reason")]
        found[f"{name}{{{','.join(own)}}}"] = float(value)
    return found


def _wait_for(expected: dict[str, float]) -> dict[str, float]:
    """The metrics, once they are as expected, or as they are in the end."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        found = _metrics()
        if expected.items() <= found.items():
            break
        time.sleep(0.5)
    return found


def test_identity_prometheus_reads_the_figures_of_a_job(local_ray):
    with JobProgress("metrics-test", 100, done=40) as progress:
        progress.follow(lambda: 3)
        progress.shard(ShardSummary("run", 0, 30, 2, '{"unreadable": 2}', worker="a:1", busy=3, span=4))
        expected = {
            'stl_ray_done{job="metrics-test"}': 70,
            'stl_ray_total{job="metrics-test"}': 100,
            'stl_ray_in_flight{job="metrics-test"}': 3,
            'stl_ray_busy{job="metrics-test"}': 0.75,
            'stl_ray_quarantined{job="metrics-test",reason="unreadable"}': 2,
        }
        found = _wait_for(expected)
        assert expected.items() <= found.items()
        assert 0 < found['stl_ray_rate_now{job="metrics-test"}'] < 30
        progress.complete()
    ended = {f'stl_ray_{name}{{job="metrics-test"}}': value for name, value in
             {"done": 100, "in_flight": 0, "rate_now": 0}.items()}  # fmt: skip
    assert ended.items() <= _wait_for(ended).items()


def test_invariant_a_shard_counts_while_the_next_one_is_made(local_ray, write_config, tmp_path, monkeypatch):
    """Of shards that take minutes, one held back looks like a job that hangs."""
    counted = tmp_path / "counted"

    class Work(TableTask):
        def table(self, run, shard):
            return pa.table({"id": [f"id-{shard.number}"]})

        def make(self, run, shard, table):
            deadline = time.monotonic() + 20
            while shard.number == 1 and not counted.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            return ShardOutput(table.append_column("counted", [[counted.exists()]]))

    count = JobProgress.shard

    def noted(progress, summary):
        count(progress, summary)
        counted.touch()

    monkeypatch.setattr(JobProgress, "shard", noted)
    plan = [PlannedShard(number=n, source={}, rows=1, digest=str(n)) for n in range(2)]
    run_shards(ShardJob("stage", [PlannedRun("stage/name", plan, {})], Work), load_experiment(write_config(tmp_path)))
    tables = Dataset.open(str(tmp_path / "root" / "stage" / "name")).tables()
    assert [table["counted"].to_pylist() for table in tables] == [[False], [True]]
