"""A head of its own for tests of the job API: a Ray of one node with a dashboard, and with tokens."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import psutil
from ray.job_submission import JobSubmissionClient

from tests.ceph import free_port


class Head:
    """A Ray of one node with a dashboard, as `ray start --head` makes it.

    Args:
        folder: for its data; a short path, since the names of unix sockets may not be long.
        bare: whether its Python has everything but this package; else it is this one.
    """

    def __init__(self, folder: Path, *, bare: bool = True) -> None:
        self.folder, self.bare, self.address = folder, bare, f"http://127.0.0.1:{free_port()}"
        self.token = secrets.token_hex(32)
        (folder / "token").write_text(self.token)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        }

    def start(self) -> None:
        """Start it, and wait until the dashboard answers."""
        programs = Path(sys.executable).parent
        if self.bare:
            venv.create(self.folder / "node", with_pip=True, symlinks=True)
            packages = next((self.folder / "node" / "lib").glob("python*/site-packages"))
            # By its name alone: the .pth file in it, by which this checkout is installed, is not read.
            (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
            programs = self.folder / "node" / "bin"
        command = [str(programs / "python"), "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command += [
            "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1",
            "--num-cpus=2",
            "--disable-usage-stats",
        ]
        command += [f"--temp-dir={self.folder / 'ray'}", f"--object-store-memory={200 * 2**20}"]
        command += [f"--dashboard-port={self.address.rpartition(':')[2]}", "--min-worker-port=0", "--max-worker-port=0"]
        for name in ("port", "dashboard-agent-listen-port", "ray-client-server-port", "metrics-export-port"):
            command.append(f"--{name}={free_port()}")
        environment = {**self.environment, "PATH": f"{programs}:{os.environ['PATH']}"}
        with (self.folder / "log").open("w") as log:
            self._process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + 90
        while True:
            try:
                return self.client() and None
            except Exception:  # noqa: BLE001  # not there yet
                assert time.monotonic() < deadline and self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.5)

    def stop(self) -> None:
        """End it, and whatever it started."""
        started = []
        with contextlib.suppress(psutil.NoSuchProcess):  # it did not start
            started = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def client(self) -> JobSubmissionClient:
        return JobSubmissionClient(self.address, headers={"Authorization": f"Bearer {self.token}"})

    def succeeded(self, entrypoint: str, **runtime_env: object) -> str:
        """What a job logs that is submitted by Ray's own client, which has to succeed."""
        client = self.client()
        name = client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env)
        while not client.get_job_status(name).is_terminal():
            time.sleep(0.5)
        assert client.get_job_status(name) == "SUCCEEDED", client.get_job_logs(name)
        return client.get_job_logs(name)

    def started(self, *command: str, **environment: str) -> subprocess.Popen:
        """A command of ours, as one who works with this cluster gives it."""
        return subprocess.Popen(
            [sys.executable, "-m", "stl_ray.cli", *command, "--address", self.address],
            env={**self.environment, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess:
        """The same, waited for."""
        with self.started(*command, **environment) as process:
            try:
                said, error = process.communicate(timeout=150)
            finally:
                process.kill()
        return subprocess.CompletedProcess(command, process.returncode, said, error)
