import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import ray
from ray._private.utils import check_version_info

from stl_ray.config import RayConfig
from stl_ray.errors import ClusterError
from stl_ray.runtime import ray_death
from stl_ray.runtime.ray_start import _explained, again_if_slow, start_ray
from tests.ceph import free_port


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_refuses_a_path_that_is_too_long_for_a_socket(variable, monkeypatch, tmp_path):
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    folder = str(tmp_path / ("x" * 60))
    monkeypatch.setenv(variable, folder)
    with pytest.raises(
        ClusterError, match=f"^{variable}: too long a path for Ray's sockets; expected .*RAY_TMPDIR=/tmp"
    ):
        start_ray(RayConfig())


def test_a_slow_start_is_tried_once_more_and_another_failure_is_not():
    starts = []

    def start(*failures):
        starts.append(0)
        if len(starts) <= len(failures):
            raise RuntimeError(failures[len(starts) - 1])

    slow = "The current node timed out during startup."  # as `ray._private.node.Node` says
    again_if_slow(lambda: start(slow))
    assert len(starts) == 2
    starts.clear()
    with pytest.raises(RuntimeError, match="timed out"):
        again_if_slow(lambda: start(slow, slow, slow))
    assert len(starts) == 2
    starts.clear()
    with pytest.raises(RuntimeError, match="no space"):
        again_if_slow(lambda: start("no space"))
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("words", "starts"), [("Timed out waiting for file /tmp/x", 2), ("Failed to bind to port 80", 1)]
)
def test_a_process_that_died_of_waiting_is_slow_too(words, starts, monkeypatch, tmp_path):
    logs = tmp_path / f"session_2026_{os.getpid()}" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.err").write_text(
        f"[2026-11-27 19:30:41,289 C 29218 29218] (raylet) node.cc:1:  Check failed: {words}\n"
    )
    monkeypatch.setattr(ray_death, "get_default_ray_temp_dir", lambda: str(tmp_path))
    tried = []

    def start():
        tried.append(0)
        if len(tried) == 1:
            raise RuntimeError("The current node timed out during startup.")

    if starts == 1:
        with pytest.raises(ClusterError, match=f"raylet died: {words}"):
            again_if_slow(start)
    else:
        again_if_slow(start)
    assert len(tried) == starts


@pytest.mark.parametrize("other", [{"ray_version": "2.55.0"}, {"python_version": "3.9.1"}])
def test_refuses_a_cluster_of_another_ray_or_python(other):
    cluster = {"ray_version": ray.__version__, "python_version": platform.python_version()} | other
    said = f"^RAY_ADDRESS: .*mismatch.*{min(other.values())}.*; expected the same Ray and Python as the cluster's$"
    with pytest.raises(ClusterError, match=said), _explained("RAY_ADDRESS"):
        check_version_info(cluster, "this process")  # as Ray does when it has joined


JOIN = """
from stl_ray.config import RayConfig
from stl_ray.runtime.session import ray_session
with ray_session(RayConfig()):
    print("joined")
"""


@pytest.mark.ray
@pytest.mark.faults
def test_says_why_one_of_ray_s_processes_died():
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    given["RAY_memory_usage_threshold"] = "2"
    done = subprocess.run([sys.executable, "-c", JOIN], env=given, capture_output=True, text=True, timeout=120)
    said = r"raylet died: .*usage_threshold must be <= 1; its log is /.*/logs/raylet\.err"
    last = done.stderr.splitlines()[-1]
    assert re.search(rf"ClusterError: a local Ray: Ray does not start \({said}\)$", last), done.stderr


UV = """
import sys, subprocess
sys.exit(subprocess.call([sys.argv[1], "-c", sys.stdin.read()]))
"""
BELOW = """
from ray._private.worker import _maybe_modify_runtime_env as runtime_env
from stl_ray.runtime.ray_start import _leave_out_uv_hook
before = runtime_env({}, False)
_leave_out_uv_hook()
print(sorted(before), runtime_env({}, False))
"""


@pytest.mark.parametrize(("variable", "after"), [(None, "{}"), ("1", "{'py_executable'")])
def test_uv_run_uploads_nothing(variable, after, tmp_path):
    (tmp_path / "run").write_text(UV)  # what Ray looks for is an ancestor whose command is `uv run ...`
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    given |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": variable} if variable else {}
    command = ["uv", "run", sys.executable]
    done = subprocess.run(
        command,
        executable=sys.executable,
        input=BELOW,
        cwd=tmp_path,
        env=given,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(f"['py_executable', 'working_dir'] {after}"), done.stderr


@pytest.mark.ray
@pytest.mark.faults
def test_refuses_to_join_without_the_cluster_s_token():
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as name:  # a short path, for Ray's sockets
        (Path(name) / "right").write_text("a" * 40)
        (Path(name) / "wrong").write_text("b" * 40)
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{name}/right"}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1"]
        command += [f"--port={address.rpartition(':')[2]}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
        command += [f"--temp-dir={name}/ray", f"--object-store-memory={100 * 2**20}", "--disable-usage-stats"]

        def joined(**settings):
            environment = {**given, "RAY_ADDRESS": address, **settings}
            return subprocess.run(
                [sys.executable, "-c", JOIN], env=environment, capture_output=True, text=True, timeout=60
            )

        with subprocess.Popen(command, env=given | token, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as head:
            try:
                deadline = time.monotonic() + 60
                while (result := joined(**token)).stdout != "joined\n":
                    assert time.monotonic() < deadline and head.poll() is None, result.stderr
                for settings in (
                    {},
                    {**token, "RAY_AUTH_TOKEN_PATH": f"{name}/wrong"},
                    {**token, "RAY_AUTH_TOKEN_PATH": "/none"},
                ):
                    last = joined(**settings, HOME=name).stderr.splitlines()[-1]
                    assert "ClusterError: RAY_ADDRESS: Ray asks for a token; expected RAY_AUTH_MODE=token" in last
            finally:
                head.terminate()  # which ends its processes
