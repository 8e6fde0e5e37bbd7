import os
import re
import shlex
import socket
import subprocess
import sys

import pytest
from ray._private.ray_constants import GCS_PORT_ENVIRONMENT_VARIABLE

from stl_ray.config import RayConfig
from stl_ray.errors import ClusterError
from stl_ray.runtime.ray_needs import object_store, require_ports
from stl_ray.runtime.ray_start import start_ray

REFUSED = """
import sys
from stl_ray.errors import ClusterError
from stl_ray.runtime import ray_needs
try:
    getattr(ray_needs, sys.argv[1])()
except ClusterError as error:
    print(error)
"""
JOIN = """
from stl_ray.config import RayConfig
from stl_ray.errors import ClusterError
from stl_ray.runtime.session import ray_session
try:
    ray_session(RayConfig()).__enter__()
except ClusterError as error:
    print(error)
"""
STORE = """
from stl_ray.runtime.ray_needs import object_store
print(object_store("/folder"))
"""
RUN = """
import ray
from stl_ray.config import RayConfig
from stl_ray.runtime.session import ray_session
with ray_session(RayConfig()):
    print(ray.get(ray.put(bytes(2**24))) == bytes(2**24))
"""
LO = "ip link set lo up"
TMPFS = "mount -t tmpfs -o"


def apart(setup, program, *arguments, **settings):
    """What the program prints with mounts and a network of its own, which `setup` makes."""
    enter = ["unshare", "--map-root-user", "--mount", "--net", "sh", "-c"]
    try:
        subprocess.run([*enter, setup], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mounts and networks of one's own here: {error}")
    if subprocess.run([*enter, f"{setup}; test -x {shlex.quote(sys.executable)}"], check=False, timeout=60).returncode:
        pytest.skip("this Python lies in a folder that the test hides")
    given = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TMPDIR"))}
    command = [*enter, f'{setup}; exec "$@"', "sh", sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=given | settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize(
    ("folder", "reason"),
    [("", "no absolute path"), ("here", "no absolute path"), ("/proc/none", "no place"), ("/dev/null", "no place")],
)
def test_refuses_a_folder_for_ray_s_files(variable, folder, reason, monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, folder)
    with pytest.raises(ClusterError, match=f"^{variable}: {reason} for Ray's files.*RAY_TMPDIR=/tmp; got {folder}"):
        start_ray(RayConfig())


@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_refuses_a_folder_that_is_full_or_read_only(options):
    full = f"{TMPFS} {options} tmpfs /tmp"
    said = r": no place for Ray's files \(\[Errno (28|30)\].*; expected a folder with room.*RAY_TMPDIR"
    assert re.match(f"RAY_TMPDIR{said}", apart(full, REFUSED, "require_folder", RAY_TMPDIR="/tmp"))
    assert re.match(f"/tmp{said}", apart(full, REFUSED, "require_folder"))


def test_refuses_a_machine_without_any_place_for_temporary_files():
    nowhere = f"for each in /tmp /var/tmp /usr/tmp; do test ! -d $each || {TMPFS} ro tmpfs $each; done && cd /proc"
    assert apart(nowhere, JOIN, HOME="/proc").startswith("/tmp: no place for Ray's files")


@pytest.mark.parametrize("options", ["ro", "size=1g,nr_inodes=1", "size=64k"])
def test_shared_memory_that_cannot_be_written_to_is_replaced_by_the_folder(options):
    assert object_store("/folder") in (None, "/folder")
    assert apart(f"{TMPFS} {options} tmpfs /dev/shm", STORE) == "/folder\n"
    assert apart(f"{TMPFS} size=64m tmpfs /dev/shm", STORE) == "None\n"


@pytest.mark.ray
@pytest.mark.faults
@pytest.mark.parametrize("options", ["size=1g,ro", "size=64m"])
def test_runs_with_little_shared_memory_or_none_and_without_a_network(options):
    assert apart(f"{TMPFS} {options} tmpfs /dev/shm && {LO}", RUN) == "True\n"


def test_refuses_a_machine_whose_processes_cannot_reach_each_other():
    said = "a local Ray: Ray's processes cannot reach each other at 127.0.0.1"
    assert apart("true", REFUSED, "require_ports").startswith(said)  # `lo` is down
    few = f"{LO} && echo 40000 40005 >/proc/sys/net/ipv4/ip_local_port_range"
    assert apart(few, REFUSED, "require_ports").startswith(said)
    assert apart(LO, REFUSED, "require_ports") == ""


@pytest.mark.parametrize("port", ["tcp://10.0.0.1:6379", "99999", "-1"])
def test_refuses_a_port_that_is_none(port, monkeypatch):
    monkeypatch.setenv(GCS_PORT_ENVIRONMENT_VARIABLE, port)
    with pytest.raises(ClusterError, match=f"^RAY_GCS_SERVER_PORT: no port .* expected a free port.*; got {port}$"):
        require_ports()


def test_refuses_a_port_that_is_taken_and_takes_a_free_one(monkeypatch):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv(GCS_PORT_ENVIRONMENT_VARIABLE, str(port))
        with pytest.raises(ClusterError, match=r"^RAY_GCS_SERVER_PORT: no port for a local Ray .*in use"):
            require_ports()
    require_ports()
    monkeypatch.setenv(GCS_PORT_ENVIRONMENT_VARIABLE, "")
    require_ports()
