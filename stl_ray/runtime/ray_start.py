"""The start of Ray: a cluster that is named, or a local Ray. What fails is said in one sentence with the key or variable."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import ray
from ray._private import ray_constants, services
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.exceptions import AuthenticationError

from stl_ray.config import RayConfig
from stl_ray.errors import ClusterError, StlRayError
from stl_ray.runtime.ray_address import require_head
from stl_ray.runtime.ray_death import why_it_died
from stl_ray.runtime.ray_needs import object_store, require_folder, require_ports

if TYPE_CHECKING:
    from stl_ray.runtime.user_modules import UserModule

# Only shard rows and weights travel; images never go through the object store.
_LOCAL_OBJECT_STORE = 512 * 1024 * 1024

_WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
_UV_HOOK = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"

_SLOW = "timed out"  # in Ray's words, which has no class for it: `Node` waits 30 s for its own processes
_LONGEST = 600  # characters of Ray's words


def start_ray(config: RayConfig, functions: Sequence[str] = ()) -> None:
    """Connect to the cluster that `ray.address` or RAY_ADDRESS names, or start a local Ray where neither does.

    Args:
        config: which Ray.
        functions: a user's own classifiers and defenses, whose modules go along to a cluster. A local Ray has this process's, and a job
            that was submitted has those that were sent with it, or its working directory.

    Raises:
        ClusterError: whatever the reason is.
        ConfigError: a module cannot be sent.
    """
    _leave_out_uv_hook()
    key = "ray.address" if config.address else "RAY_ADDRESS"
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        with _explained("a local Ray"):
            folder = require_folder()
            require_ports()
            again_if_slow(lambda: _start_local(object_store(folder)))
        return
    with _explained(key):
        if address == "auto":
            address = services.canonicalize_bootstrap_address_or_die(address)
        require_head(address, key)
        with TemporaryDirectory(prefix="stl-ray-modules-") as folder:
            _join(address, [str(module.copied(Path(folder))) for module in _sent(functions)])


def _sent(functions: Sequence[str]) -> "list[UserModule]":
    """The modules that this process sends."""
    if not functions or RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ:  # a submitted job's runtime environment is settled
        return []
    from stl_ray.runtime.user_modules import travelling  # loads torch

    return travelling(functions)


def _join(address: str, modules: list[str]) -> None:
    environment = {"py_modules": modules} if modules else None
    ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)


def again_if_slow(start: Callable[[], None]) -> None:
    """Start, and once more where the first time took too long: the machine may be busy, and the programs are loaded now.

    Raises:
        ClusterError: it took too long since one of Ray's processes died.
    """
    try:
        start()
    except Exception as error:
        if _SLOW not in str(error).lower():
            raise
        died = why_it_died()
        # A process that died of waiting for another one was slow too.
        if died and _SLOW not in died.lower():
            raise ClusterError(f"Ray does not start ({died})", item="a local Ray") from error
        ray.shutdown()
        start()


def _start_local(plasma_directory: str | None) -> None:
    with _without_preemption_watcher():
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_LOCAL_OBJECT_STORE,
            _plasma_directory=plasma_directory,
        )


@contextmanager
def _explained(item: str) -> Iterator[None]:
    """Raise what Ray raises as a ClusterError about a key, a variable or a local Ray."""
    try:
        yield
    except StlRayError:
        raise
    except AuthenticationError as error:
        raise ClusterError(
            "Ray asks for a token", item=item, got=f"RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE', '')}",
            expected="RAY_AUTH_MODE=token, and the cluster's token in ~/.ray/auth_token or where RAY_AUTH_TOKEN_PATH says",
        ) from error  # fmt: skip
    except Exception as error:
        expected = "the same Ray and Python as the cluster's" if "ersion mismatch" in str(error) else None
        raise ClusterError(f"Ray does not start ({_words(error)})", item=item, expected=expected) from error


def _words(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."


def _leave_out_uv_hook() -> None:
    """Keep Ray from uploading the working directory, and from installing it for every worker, below `uv run`.

    Local workers have this process's Python, and nodes of a cluster their own environment. Who sets the variable decides.
    """
    if _UV_HOOK not in os.environ:
        ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False


@contextmanager
def _without_preemption_watcher() -> Iterator[None]:
    """Start a local Ray whose trainings do not watch for announced ends of nodes: nobody announces this one's.

    Its workers inherit the setting; the process itself may join a cluster later, where such ends count.
    """
    given = _WATCHER in os.environ
    os.environ.setdefault(_WATCHER, "0")
    try:
        yield
    finally:
        if not given:
            del os.environ[_WATCHER]
