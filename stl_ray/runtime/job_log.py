"""The record of a job's session: one JSON file with times, counts, machine, versions and outcome."""

import os
import platform
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import stl_ray
from stl_ray.config import Experiment
from stl_ray.errors import StlRayError
from stl_ray.runtime.job_status import publishing, remark
from stl_ray.store import Layout, Storage
from stl_ray.store.filesystem import canonical_json
from stl_ray.store.shards import sha256

_PACKAGES = ("stl-ray", "ray", "torch", "torchvision", "numpy", "pyarrow", "scikit-learn")


def environment() -> dict[str, Any]:
    """Machine and software: what is recorded with results but is no part of their identity."""
    import torch  # here, since workers that need no torch import this module too

    return {
        "machine": _processor(),
        "cpus": os.cpu_count(),
        "gpus": torch.cuda.device_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


@contextmanager
def job_session(job: str, experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Check that the root can be written to, then record the session of a job, however it ends.

    Yields:
        A dict to which the job adds its counts (`images`, `quarantined`), and a `remark` where it has one.

    Raises:
        StorageError: if the root cannot be written to; before any work.
    """
    storage = Storage.open(experiment.root)
    storage.preflight()
    config = experiment.model_dump(mode="json")
    counts: dict[str, Any] = {"images": 0, "quarantined": 0}
    started, start = datetime.now(UTC), time.monotonic()
    outcome = "failed"
    try:
        with publishing(storage, job):
            yield counts
            if "remark" in counts:
                remark(counts["remark"])
        outcome = "done"
        storage.write_json(Layout.experiment, config)
    finally:
        record = {
            "job": job,
            "outcome": outcome,
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - start, 2),
            **counts,
            **environment(),
            "config_digest": sha256(canonical_json(config)),
        }
        name = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}.json"
        try:
            storage.write_json(f"{Layout(experiment.root).sessions(job)}/{name}", record)
        except StlRayError:
            if outcome == "done":
                raise  # otherwise it would hide why the job failed


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    """The commit of the checkout that the package runs from; none for an installed wheel."""
    checkout = Path(stl_ray.__file__).resolve().parents[1]
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
