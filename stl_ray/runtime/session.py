"""The Ray to work on: one that is connected already, the one that is named, or a local one that is closed again."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import IO, Any

import ray
from ray._private import worker as ray_worker
from ray.data import DataContext

from stl_ray.config import RayConfig
from stl_ray.errors import ConfigError
from stl_ray.runtime.node_labels import described, nodes_matching, require_matching_node
from stl_ray.runtime.ray_address import host_and_port
from stl_ray.runtime.ray_start import start_ray
from stl_ray.runtime.signals import keep_handlers

_HANDLERS_EVERY_S = 0.01

_ON_PURPOSE = "killed by `ray.kill`"


@contextmanager
def ray_session(config: RayConfig, functions: Sequence[str] = ()) -> Iterator[None]:
    """Connect to Ray for the time of the block; a Ray that was already connected is left as it is.

    Args:
        config: which Ray.
        functions: a user's own classifiers and defenses, `module:function`, whose modules go to the nodes of a cluster.

    Raises:
        ClusterError: if Ray does not start, or no cluster answers.
        ConfigError: if the address is none, no node has the labels that it asks for, or a module cannot be sent.
    """
    _leave_out_warnings()
    if ray.is_initialized():
        if config.address not in (None, "local", "auto"):
            host_and_port(config.address, "ray.address")  # refused whoever is connected already
        require_matching_node(config)
        _prepare_ray_data()
        yield
        return
    # Every actor pool logs a line about constructor arguments as an error, which it is not (Ray issue 53727).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray repeats the variable, says in its own words what we say, and is surprised by a machine without a network.
    with _without_lines_of(b"RAY_BACKEND_LOG_LEVEL", b"gcs_client.cc:", b"rpc_client.h:", b"network_util.cc:"):
        start_ray(config, functions)
    keep_handlers()
    _prepare_ray_data()
    try:
        require_matching_node(config)
        yield
    finally:
        _shut_down()


def _shut_down() -> None:
    """Close Ray, whose core takes back the handlers of signals as it ends: SIGTERM would end the process at once."""
    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(ray.shutdown)
        while not closed.done():
            keep_handlers()
            wait([closed], timeout=_HANDLERS_EVERY_S)
    keep_handlers()
    closed.result()


@contextmanager
def _without_lines_of(*texts: bytes) -> Iterator[None]:
    """Hold back the process's stderr in the block, C++ too, and write it at the end without lines that have such a text."""
    place = _unnamed_file()
    if sys.stderr is None or place is None:  # stderr was closed before the process began, or nothing can be written to
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with place as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not any(text in line for text in texts):
                    os.write(2, line)


def _unnamed_file() -> IO[bytes] | None:
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return None


def _leave_out_warnings() -> None:
    """Keep off the terminal what Ray publishes as errors and are none; `log_to_driver` does not cover them.

    These are warnings, most often of the number of worker processes, of which every training and dictionary has some that
    take no CPU, and the deaths of actors that are killed on purpose, as the rest of a pool is when its job ends early.
    """
    show = ray_worker.print_to_stdstream
    if getattr(show, "without_warnings", False):
        return

    def show_errors(data: dict[str, Any], ignore_prefix: bool) -> None:
        lines = [line for line in data["lines"] if not line.startswith("WARNING:") and _ON_PURPOSE not in line]
        if lines:
            show({**data, "lines": lines}, ignore_prefix)

    show_errors.without_warnings = True  # type: ignore[attr-defined]
    ray_worker.print_to_stdstream = show_errors


def _prepare_ray_data() -> None:
    """Silence Ray Data's progress, of blocks and operators, beside ours, of images, and let shards take their time."""
    context = DataContext.get_current()
    # A shard is one row: of large images it may rightly take longer than Ray Data waits for a sign of progress.
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)


def worker_slots(*, cpus: int, gpus: float, selectors: Sequence[Mapping[str, str]]) -> int:
    """The number of workers of that size that the nodes which match a selector hold at once; a worker lies on one node."""
    total = 0
    for node in nodes_matching(selectors):
        resources = node["Resources"]
        here = int(resources.get("CPU", 0)) // cpus
        # A worker with a share of a GPU has it on one GPU.
        total += min(here, int(resources.get("GPU", 0)) * int(1 / gpus)) if gpus else here
    return total


def require_worker_slots(
    wanted: int, *, cpus: int, gpus: float, selectors: Sequence[Mapping[str, str]], key: str
) -> int:
    """`worker_slots`, at least as many as are wanted.

    Raises:
        ConfigError: if fewer fit; Ray would otherwise wait for ever.
    """
    fit = worker_slots(cpus=cpus, gpus=gpus, selectors=selectors)
    if fit < wanted:
        nodes = f", of nodes with {described(selectors)}" if all(selectors) else ""
        raise ConfigError(
            "the cluster cannot hold that many workers",
            item=key,
            expected=f"at most {fit} of {cpus} CPUs and {gpus:g} GPUs each, on one node each{nodes}",
            got=wanted,
        )
    return fit


def device_of(config: RayConfig) -> str:
    """The device of an actor's tensors."""
    return "cuda" if config.gpus_per_actor else "cpu"
