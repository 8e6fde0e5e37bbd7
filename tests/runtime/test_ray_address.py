import http.server
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stl_ray.config import RayConfig
from stl_ray.errors import ClusterError, ConfigError
from stl_ray.runtime import ray_address
from stl_ray.runtime.ray_start import start_ray


@pytest.fixture
def silent():
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def web():
    """The port of a web server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed():
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def refused(address, monkeypatch):
    """What is said of an address in RAY_ADDRESS, and of it in the configuration."""
    with pytest.raises((ClusterError, ConfigError)) as by_key:
        start_ray(RayConfig(address=address))
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(type(by_key.value)) as by_variable:
        start_ray(RayConfig())
    assert str(by_key.value) == str(by_variable.value).replace("RAY_ADDRESS: ", "ray.address: ")
    assert str(by_variable.value).startswith("RAY_ADDRESS: ") and "\n" not in str(by_variable.value)
    return str(by_variable.value)


@pytest.mark.parametrize("address", ["10.0.0.1", "host:", ":6379", "host:http", "host:70000", "host", "::1"])
def test_refuses_what_is_no_host_and_port(address, monkeypatch):
    text = refused(address, monkeypatch)
    assert "expected HOST:PORT of the cluster's head" in text and f"got {address}" in text


def test_refuses_urls_and_says_what_takes_them(monkeypatch):
    assert "a dashboard's URL is for `stl-ray submit`" in refused("http://127.0.0.1:8265", monkeypatch)
    assert "Ray Client does not carry trainings" in refused("ray://127.0.0.1:10001", monkeypatch)


def test_refuses_an_address_where_nobody_is(closed, monkeypatch):
    assert "nobody answers there" in refused(f"127.0.0.1:{closed}", monkeypatch)
    assert "nobody answers there" in refused("there-is-no-such-host.invalid:6379", monkeypatch)


def test_refuses_a_server_that_is_no_head(silent, web, monkeypatch):
    assert "no head of a Ray cluster" in refused(f"127.0.0.1:{web}", monkeypatch)
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(ray_address, "_WAIT_S", 0.2)
    assert "nobody answers there (timed out)" in refused(f"127.0.0.1:{silent}", monkeypatch)


def test_refuses_another_service_of_the_same_protocol(monkeypatch):
    grpc = pytest.importorskip("grpc")
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    assert "no head of a Ray cluster" in refused(f"127.0.0.1:{port}", monkeypatch)
    server.stop(None)
