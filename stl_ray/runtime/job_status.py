"""The status of a job as a file below the experiment's root, to be read from anywhere. Knows nothing of Ray."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stl_ray.errors import StlRayError
from stl_ray.store import Layout, Storage

RUNNING, DONE, FAILED = "running", "done", "failed"


@dataclass
class _StatusFile:
    storage: Storage
    path: str
    record: dict[str, Any]

    def write(self, **changes: Any) -> None:
        self.record |= {**changes, "updated": datetime.now(UTC).isoformat(timespec="seconds")}
        self.storage.write_json(self.path, self.record)


# A process does one job at a time.
_current: list[_StatusFile] = []


@contextmanager
def publishing(storage: Storage, job: str) -> Iterator[None]:
    """Keep the status file of a job up to date in the block, and record there how the job ended.

    Raises:
        StorageError: if it cannot be written at the beginning.
    """
    record = {
        "job": job,
        "state": RUNNING,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    file = _StatusFile(storage, Layout.status(job), record)
    file.write()
    _current.append(file)
    outcome, message = FAILED, ""
    try:
        yield
        outcome = DONE
    except BaseException as error:
        message = str(error) or type(error).__name__
        raise
    finally:
        _current.remove(file)
        try:
            file.write(state=outcome, error=message)
        except StlRayError:
            if outcome == DONE:
                raise  # otherwise it would hide why the job failed


def publish(figures: dict[str, Any]) -> None:
    """Put the figures of a `JobProgress.snapshot` into the status file of the job at hand, if there is one.

    Raises:
        StorageError: if it cannot be written.
    """
    if _current:
        _current[-1].write(progress=figures)


def remark(text: str) -> None:
    """Keep a remark on the job at hand, which its status file gets with the job's end."""
    if _current:
        _current[-1].record["remark"] = text


def statuses(root: str) -> list[dict[str, Any]]:
    """The status records of all jobs of an experiment that were started, in the order of their starts.

    Raises:
        StorageError: if the root cannot be read.
    """
    storage = Storage.open(root)
    records = [storage.read_json(f"{Layout.statuses}/{name}") for name in storage.names(Layout.statuses)]
    return sorted(records, key=lambda record: str(record["started"]))
