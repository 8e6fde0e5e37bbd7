"""Whether the head of a Ray cluster answers at an address: Ray itself waits for a quarter of an hour to find out.

A head speaks gRPC, which is HTTP/2: a server answers the client's preface with a SETTINGS frame (RFC 9113, sections 3.4
and 4.1). So a port of nobody, a web page and a firewall are told from it in seconds, before Ray's own client asks.
"""

import socket

from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import RpcError

from stl_ray.errors import ClusterError, ConfigError

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_NO_SETTINGS = b"\0\0\0\4\0\0\0\0\0"  # length 0, type SETTINGS, no flags, stream 0
_TYPE, _SETTINGS = 3, 4  # the byte of a frame's type, and the type
_WAIT_S = 5.0

_EXPECTED = "HOST:PORT of the cluster's head, such as 10.0.0.1:6379"


def require_head(address: str, key: str) -> None:
    """Refuse an address at which no head of a cluster answers, within seconds.

    Args:
        address: host and port.
        key: the configuration's key or the variable that it is from.

    Raises:
        ConfigError: it is no host and port.
        ClusterError: nobody answers there, or what answers is no Ray.
        ray.exceptions.AuthenticationError: its Ray asks for a token, or another one.
    """
    host, port = host_and_port(address, key)
    try:
        answer = _answer(host, port)
    except OSError as error:
        raise ClusterError(f"nobody answers there ({error})", item=key, expected=_EXPECTED, got=address) from error
    ensure_token_if_auth_enabled(create_token_if_missing=False)  # GcsClient ends the process where there is no token
    another = ClusterError("what answers there is no head of a Ray cluster", item=key, expected=_EXPECTED, got=address)
    if answer[_TYPE : _TYPE + 1] != bytes([_SETTINGS]):
        raise another
    try:
        GcsClient(address=f"{host}:{port}")
    except RpcError as error:
        raise another from error


def host_and_port(address: str, key: str) -> tuple[str, int]:
    """The parts of an address.

    Args:
        address: host and port.
        key: the configuration's key or the variable that it is from.

    Raises:
        ConfigError: it is no host and port.
    """
    scheme = address.partition("://")[0] if "://" in address else ""
    if scheme == "ray":
        raise ConfigError("Ray Client does not carry trainings", item=key, expected=_EXPECTED, got=address)
    if scheme:
        expected = f"{_EXPECTED}; a dashboard's URL is for `stl-ray submit`"
        raise ConfigError("not the address of a cluster", item=key, expected=expected, got=address)
    host, _, port = address.strip().rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError("not the address of a cluster", item=key, expected=_EXPECTED, got=address)
    return host, int(port)


def _answer(host: str, port: int) -> bytes:
    """The head of the first frame, or whatever else is said.

    Raises:
        OSError: nobody answers.
    """
    with socket.create_connection((host.strip("[]"), port), timeout=_WAIT_S) as connection:
        connection.sendall(_PREFACE + _NO_SETTINGS)
        return connection.recv(_TYPE + 1)
