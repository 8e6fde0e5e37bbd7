"""A Ray to work on: the one that is there, the one that is named, or a local one that we close again."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data import DataContext

from stl_ray.config import RayConfig

# Only shard rows and weights travel; images never go through the object store.
_LOCAL_OBJECT_STORE = 512 * 1024 * 1024


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Connect to Ray for the time of the block; a Ray that was already connected is left as it is."""
    if ray.is_initialized():
        yield
        return
    # Every actor pool logs a line about constructor arguments as an error, which it is not (Ray issue 53727).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = config.address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    else:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_LOCAL_OBJECT_STORE,
        )
    _quiet()
    try:
        yield
    finally:
        ray.shutdown()


def _quiet() -> None:
    """Our own progress speaks of images; Ray Data's speaks of blocks and operators."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)


def cluster_total(resource: str) -> float:
    """How much of a resource ("CPU", "GPU") the whole cluster has."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get(resource, 0.0)
