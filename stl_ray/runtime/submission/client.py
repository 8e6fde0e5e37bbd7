"""The dashboard of a cluster: a client of its job API, with errors that name their causes, and a job's log as it grows."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import ray

from stl_ray.errors import ClusterError
from stl_ray.runtime.ray_address import require_head

try:
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError, RpcError
    from ray.job_submission import JobDetails, JobSubmissionClient
except ImportError as missing:
    raise ClusterError("the job API is not installed", expected="pip install 'ray[default]'") from missing

_HERE = "http://127.0.0.1:8265"
_SILENCE_S = 300.0
_PAUSE_S = 2.0

Say = Callable[[str], None]


def connect(address: str | None) -> JobSubmissionClient:
    """A client of the dashboard.

    Args:
        address: its URL, or HOST:PORT of a cluster's head, which knows it; without one RAY_API_SERVER_ADDRESS or
            RAY_ADDRESS, else that of this machine.

    Raises:
        ConfigError: it is no address.
        ClusterError: if nobody answers there, it is of another Ray, or it asks for a token.
    """
    places = {
        "--address": address,
        **{name: os.environ.get(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")},
    }
    key, address = next(((key, place) for key, place in places.items() if place), ("", _HERE))
    for name in ("job.sdk", "dashboard_sdk"):
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    with explained(address):
        if not address.startswith(("http://", "https://")) and address not in {"auto", "local"}:
            require_head(address, key)  # which knows its dashboard
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray's client believes the environment before its argument
        client = JobSubmissionClient(address)
    there = str(client._server_ray_version)
    if there.split(".")[:2] != ray.__version__.split(".")[:2]:
        raise ClusterError("the cluster has another Ray", item=address, expected=ray.__version__, got=there)
    return client


def follow(client: JobSubmissionClient, name: str, say: Say, *, skip: int = 0) -> None:
    """Say what a job logs until it has ended; the connection may be lost for minutes.

    Args:
        client: of `connect`.
        name: the job's id.
        say: is told the log, some lines at a time.
        skip: characters of the log that are of an earlier job of that id.

    Raises:
        ClusterError: if it did not succeed, with the reason, or nobody answers any more.
    """
    log, lost = _Log(client, name, say, skip), None
    while True:
        try:
            _look(client, name)
            lost = None
            asyncio.run(log.tail())
            info = _look(client, name)
        except (ClusterError, aiohttp.ClientError, OSError, RuntimeError) as error:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > _SILENCE_S:
                raise ClusterError(f"no longer followed, but the job may go on ({error})", item=name) from error
        else:
            if info.status == "SUCCEEDED":
                return
            if info.status in ("FAILED", "STOPPED"):
                raise ClusterError(_reason(info), item=name)
        time.sleep(_PAUSE_S)


class _Log:
    """A job's log, said once however often the connection is lost."""

    def __init__(self, client: JobSubmissionClient, name: str, say: Say, said: int) -> None:
        self._client, self._name, self._say, self._said = client, name, say, said

    async def tail(self) -> None:
        """Say what is new until the job has ended or the connection is closed."""
        read = 0
        async for text in self._client.tail_job_logs(self._name):
            new = text[max(0, self._said - read) :]
            read += len(text)
            self._said = max(self._said, read)
            if new:
                self._say(new.removesuffix("\n"))


def _look(client: JobSubmissionClient, name: str) -> JobDetails:
    with explained(client.get_address()):
        return client.get_job_info(name)


def _reason(info: JobDetails) -> str:
    if info.status == "STOPPED":
        return "it was stopped; submitted again, it goes on where it stopped"
    lines = [line for line in (info.message or "").splitlines() if line.strip()] or ["no reason is known"]
    if info.driver_exit_code is None:
        return "it failed: " + "\n".join(lines)
    # Ray's message ends with the last lines of the log, and these with what our command says of its failure.
    return f"it failed with exit code {info.driver_exit_code}: {lines[-1]}"


@contextmanager
def explained(address: str) -> Iterator[None]:
    """Raise a ClusterError that names the cause of an error of Ray's client."""
    try:
        yield
    except AuthenticationError as error:
        raise ClusterError(
            f"the cluster asks for a token ({str(error).splitlines()[0]})", item=address,
            expected="RAY_AUTH_MODE=token, and the cluster's token in ~/.ray/auth_token or where RAY_AUTH_TOKEN_PATH says",
            got=f"RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE', '')}",
        ) from error  # fmt: skip
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise ClusterError(
            "no dashboard answers", item=address, got=str(error),
            expected="the URL of the head's dashboard, such as http://127.0.0.1:8265 with its port forwarded to here"
            + _proxy(address),
        ) from error  # fmt: skip
    except (RuntimeError, ValueError, RpcError) as error:
        if "ray[default]" in str(error):
            raise ClusterError("the job API is not installed", expected="pip install 'ray[default]'") from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ClusterError(lines[-1], item=address) from error


def _proxy(address: str) -> str:
    """What to do about a proxy that the environment puts between here and an address; empty where it puts none."""
    proxies = {name.lower() for name in requests.utils.get_environ_proxies(address)}
    scheme, host = urlsplit(address).scheme, urlsplit(address).hostname
    if not proxies & {scheme, "all"}:
        return ""
    return f"; with {scheme.upper()}_PROXY set, NO_PROXY has to name {host}, unless the way to it is by the proxy"
