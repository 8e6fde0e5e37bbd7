import socket

import pytest

from stl_ray.errors import ClusterError, ConfigError
from stl_ray.runtime.submission.client import connect


def test_refuses_a_dashboard_that_does_not_answer_and_names_a_proxy_in_between(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # which `connect` sets
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ClusterError, match="no dashboard answers; expected the URL") as caught:
        connect(nobody)
    assert "PROXY" not in str(caught.value)
    monkeypatch.setenv("HTTP_PROXY", nobody)
    with pytest.raises(
        ClusterError, match=r"no dashboard answers; .*HTTP_PROXY set, NO_PROXY has to name 127\.0\.0\.1"
    ):
        connect(nobody)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(ClusterError) as caught:
        connect(nobody)
    assert "PROXY" not in str(caught.value)


@pytest.mark.parametrize("address", ["10.0.0.1", "ray://10.0.0.1:10001", "ftp://10.0.0.1:1", "127.0.0.1:1"])
def test_refuses_at_once_what_is_neither_a_dashboard_nor_a_head(address, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    with pytest.raises((ClusterError, ConfigError), match=f"^--address: .*expected HOST:PORT.*got {address}"):
        connect(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises((ClusterError, ConfigError), match=r"^RAY_ADDRESS: "):
        connect(None)
