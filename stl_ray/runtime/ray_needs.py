"""What a local Ray takes of its machine: a folder, shared memory, ports. Where one is not there, Ray itself only times out."""

import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

import ray
from ray._common.utils import get_default_ray_temp_dir, get_default_system_temp_dir, try_to_create_directory
from ray._private.ray_constants import GCS_PORT_ENVIRONMENT_VARIABLE
from ray._private.utils import validate_socket_filepath

from stl_ray.errors import ClusterError

_SHARED_MEMORY = "/dev/shm"
_TRIAL = bytes(2**20)  # less is no room for Ray's logs
_PORTS = 16  # a local Ray with two workers does not start with 6, and runs with 24
_WAIT_S = 5.0


def require_folder() -> str:
    """The folder in which a local Ray has its sockets, its logs, and objects that do not fit into memory.

    Raises:
        ClusterError: it is no absolute path, too long for a socket's, or nothing can be written there.
    """
    given: str = get_default_system_temp_dir()  # type: ignore[no-untyped-call]
    item = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name) == given), given)
    folder: str = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
    expected = "a folder with room that can be written to; RAY_TMPDIR is for Ray's files alone, such as RAY_TMPDIR=/tmp"
    if not Path(given).is_absolute():
        raise ClusterError("no absolute path for Ray's files", item=item, expected=expected, got=given)
    session = f"session_0000-00-00_00-00-00_000000_{os.getpid()}"
    try:
        validate_socket_filepath(str(Path(folder, session, "sockets", "plasma_store")))
    except OSError as error:
        expected = "a shorter one; RAY_TMPDIR is for Ray's files alone, such as RAY_TMPDIR=/tmp"
        raise ClusterError("too long a path for Ray's sockets", item=item, expected=expected, got=given) from error
    try:
        try_to_create_directory(folder)  # type: ignore[no-untyped-call]
        _write_to(folder)
    except OSError as error:
        raise ClusterError(f"no place for Ray's files ({error})", item=item, expected=expected, got=given) from error
    return folder


def object_store(folder: str) -> str | None:
    """Where the object store lies: where Ray puts it, or in the folder if shared memory cannot be written to.

    Of shared memory Ray asks for the size alone, and takes a folder on disk if that is too small.
    """
    try:
        _write_to(_SHARED_MEMORY)
    except OSError:
        return folder
    return None


def require_ports() -> None:
    """Refuse a machine on which processes cannot listen, or not reach each other.

    Raises:
        ClusterError: so it is, or RAY_GCS_SERVER_PORT is no port or taken.
    """
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as held:
        try:
            servers = [
                held.enter_context(socket.create_server((address, 0), family=family, backlog=1)) for _ in range(_PORTS)
            ]
            held.enter_context(socket.create_connection(servers[0].getsockname()[:2], timeout=_WAIT_S))
        except OSError as error:
            raise ClusterError(
                f"Ray's processes cannot reach each other at {address} ({error})", item="a local Ray",
                expected=f"{_PORTS} free ports or more (net.ipv4.ip_local_port_range), the interface up (for 127.0.0.1 it"
                " is lo), and no firewall between a machine's own processes",
            ) from error  # fmt: skip
    port = os.environ.get(GCS_PORT_ENVIRONMENT_VARIABLE)
    if not port:
        return
    try:
        socket.create_server((address, int(port)), family=family).close()
    except (ValueError, OverflowError, OSError) as error:
        raise ClusterError(
            f"no port for a local Ray ({error})", item=GCS_PORT_ENVIRONMENT_VARIABLE, got=port,
            expected="a free port, or the variable unset: Ray finds a free one",
        ) from error  # fmt: skip


def _write_to(folder: str) -> None:
    with tempfile.TemporaryFile(dir=folder, buffering=0) as trial:
        written = trial.write(_TRIAL)
        trial.write(_TRIAL[written:])  # what a full disk cut off is refused now
