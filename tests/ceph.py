"""A real S3 server for the tests: Ceph's RADOS Gateway with one monitor and one OSD, on loopback, as plain processes.

They are one process group, whose leader ends them all when the process that started them is gone, however it went.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")
DISK_BYTES = 10 * 2**30  # sparse
REGION = "us-east-1"
USER = "tests"


def missing() -> list[str]:
    """The programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def free_port() -> int:
    """A port on loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Ceph:
    """The server.

    Args:
        folder: for its data; a short path, since the names of unix sockets may not be long.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        self.access_key, self.secret_key = "tests", "of-the-tests-only"
        self._processes: dict[str, subprocess.Popen] = {}
        self._guard: subprocess.Popen | None = None

    def start(self) -> None:
        """Start everything, and wait until the gateway answers."""
        monitor, fsid, osd = f"127.0.0.1:{free_port()}", str(uuid.uuid4()), str(uuid.uuid4())
        for name in ("mon", "osd", "run"):
            (self.folder / name).mkdir(parents=True)
        # Its input ends with this process. A group in which one is stopped gets SIGHUP when its parent dies.
        guard = "trap '' HUP; cat; kill -KILL 0"
        self._guard = subprocess.Popen(["sh", "-c", guard], stdin=subprocess.PIPE, process_group=0)
        self._write_configuration(monitor, fsid)
        self._run(
            "monmaptool", "--create", "--clobber", "--addv", "a", f"[v2:{monitor}]", "--fsid", fsid, self._at("map")
        )
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", self._at("map"), "--mon-data", self._at("mon"))
        self._spawn("mon", "ceph-mon", "-f", "-i", "a", "--mon-data", self._at("mon"))
        self._run("ceph", "osd", "new", osd, timeout=30)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd, "--osd-data", self._at("osd"))
        self._spawn("osd", "ceph-osd", "-f", "-i", "0", "--osd-data", self._at("osd"))
        keys = ("--access-key", self.access_key, "--secret-key", self.secret_key)
        self._run("radosgw-admin", "user", "create", "--uid", USER, "--display-name", USER, *keys, timeout=60)
        self.restart()

    def stop(self) -> None:
        """End all processes."""
        if self._guard is not None:
            self._guard.stdin.close()
            for process in (*self._processes.values(), self._guard):
                process.wait()

    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def bucket(self) -> str:
        """The name of a new bucket."""
        import boto3

        name = f"b{uuid.uuid4().hex[:12]}"
        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        boto3.client("s3", endpoint_url=self.endpoint, region_name=REGION, **keys).create_bucket(Bucket=name)
        return name

    def pause(self) -> None:
        """Stop the gateway; its connections stay open and nobody answers."""
        self._processes["gateway"].send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._processes["gateway"].send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the gateway."""
        process = self._processes.pop("gateway")
        process.kill()
        process.wait()

    def restart(self) -> None:
        """Start the gateway, after `kill` or at first."""
        port = self.endpoint.rpartition(":")[2]
        front = f"beast endpoint=127.0.0.1:{port} tcp_nodelay=1"
        self._spawn("gateway", "radosgw", "-f", "-n", "client.rgw", "--rgw-frontends", front)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, urllib.error.URLError):
                urllib.request.urlopen(self.endpoint, timeout=2)
                return
            time.sleep(0.1)
        raise TimeoutError(f"the gateway does not answer: {(self.folder / 'gateway.log').read_text()[-2000:]}")

    def add_key(self, access_key: str, secret_key: str) -> None:
        """One more key of the user."""
        keys = ("--access-key", access_key, "--secret-key", secret_key)
        self._run("radosgw-admin", "key", "create", "--uid", USER, "--key-type", "s3", *keys, timeout=60)

    def revoke(self, access_key: str) -> None:
        """Make a key worthless."""
        self._run("radosgw-admin", "key", "rm", "--key-type", "s3", "--access-key", access_key, timeout=60)

    def _at(self, name: str) -> str:
        return str(self.folder / name)

    def _write_configuration(self, monitor: str, fsid: str) -> None:
        settings = {
            "fsid": fsid,
            "mon host": f"[v2:{monitor}]",
            "mon initial members": "a",
            "auth cluster required": "none",
            "auth service required": "none",
            "auth client required": "none",
            "ms mon client mode": "crc",  # the gateway hangs without it
            "ms mon cluster mode": "crc",
            "ms mon service mode": "crc",
            "mon allow pool size one": "true",
            "mon warn on pool no redundancy": "false",
            "osd pool default size": "1",
            "osd pool default min size": "1",
            "osd pool default pg num": "8",
            "osd crush chooseleaf type": "0",
            "osd max object name len": "256",
            "osd max object namespace len": "64",
            "osd objectstore": "bluestore",
            "bluestore block size": str(DISK_BYTES),
            "bluestore block create": "true",
            "bluestore cache autotune": "false",
            "bluestore cache size": "67108864",
            "osd memory target": "939524096",
            "paxos propose interval": "0.05",
            "mon tick interval": "1",
            "rgw cache enabled": "false",
            "run dir": self._at("run"),
            "admin socket": self._at("run/$name.asok"),
            "log file": self._at("$name.log"),
            "pid file": "",
        }
        lines = ["[global]", *(f"{key} = {value}" for key, value in settings.items())]
        (self.folder / "ceph.conf").write_text("\n".join(lines) + "\n")

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [program, "-c", self._at("ceph.conf"), *arguments] if program != "monmaptool" else [program, *arguments]

    def _run(self, program: str, *arguments: str, timeout: float = 30) -> None:
        done = subprocess.run(
            self._command(program, *arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            process_group=self._guard.pid,
        )
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stderr or done.stdout}")

    def _spawn(self, name: str, program: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                self._command(program, *arguments),
                stdout=log,
                stderr=log,
                env={**os.environ, "CEPH_CONF": self._at("ceph.conf")},
                process_group=self._guard.pid,
            )
