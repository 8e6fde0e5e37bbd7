"""One driver of a run at a time.

On disks the lease is a lock on `lease.lock` that the kernel takes back when the driver dies, so that a resume never
waits. On S3 it is `lease.json`, created once and renewed by its holder every few seconds (If-Match its last ETag); a
driver that sees the ETag unchanged for a while, by its own clock, takes the lease over. Other storages have neither:
there, one driver at a time is up to the user.
"""

import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stl_ray.errors import RunBusyError, StorageError
from stl_ray.store.filesystem import Storage, to_json
from stl_ray.store.s3 import S3Files
from stl_ray.text import plain

LOCK, RECORD = "lease.lock", "lease.json"

BEAT_S = 3.0
STALE_S = 15.0

_WATCHERS = 16


class Lease:
    """The lease of a driver; it is lost where another took it over for want of heartbeats."""

    def __init__(self) -> None:
        self._lost: str | None = None

    def lose(self, message: str) -> None:
        """Note that another driver has it now."""
        self._lost = message

    def check(self) -> None:
        """Make sure that it is still held.

        Raises:
            RunBusyError: if another driver has taken it over.
        """
        if self._lost is not None:
            raise RunBusyError(self._lost)


@contextmanager
def held(storages: Sequence[Storage]) -> Iterator[Lease]:
    """Hold the leases of some runs in the block.

    Args:
        storages: the runs' folders.

    Raises:
        RunBusyError: if another driver holds one of them; it says who.
        StorageError: if the storage refuses.
    """
    lease = Lease()
    me = {
        "holder": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with ExitStack() as stack:
        remote = []
        for storage in storages:
            if storage.folder is not None:
                stack.enter_context(_locked(storage.folder, me))
            elif isinstance(storage.files, S3Files):
                remote.append(_Record(storage.files, me, storage.root))
                stack.callback(remote[-1].release)
        if remote:
            stack.enter_context(_beating(remote, lease))
            # Side by side: watching the leases of a dead driver takes a while.
            with ThreadPoolExecutor(_WATCHERS) as pool:
                list(pool.map(_Record.acquire, remote))
        yield lease


def busy(record: dict[str, Any], item: str) -> RunBusyError:
    """The error that names the driver at work."""
    return RunBusyError(
        f"another driver is at work here: process {record.get('pid')} on {record.get('host')} since {record.get('since')}; "
        "wait for it, or stop it", item=item,
    )  # fmt: skip


@contextmanager
def _locked(folder: Path, me: dict[str, Any]) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+b")
    except OSError as error:
        raise StorageError(error.strerror or str(error), item=folder / LOCK) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise busy(_parsed(file.read()), str(folder)) from None
        except OSError as error:
            raise StorageError(f"the disk has no locks ({error.strerror})", item=folder / LOCK) from error
        file.truncate(0)
        file.write(to_json(me))
        file.flush()
        yield
        file.truncate(0)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


class _Record:
    """The lease of one run on S3."""

    def __init__(self, files: S3Files, me: dict[str, Any], item: str) -> None:
        self._files, self._me, self._item = files, me, item
        self._beats = 0
        self._tag = ""

    def acquire(self) -> None:
        """Create the record, or take it over from a driver that gives no sign of life.

        Raises:
            RunBusyError: if its holder is alive.
        """
        tag = self._files.replace(RECORD, self._bytes(), None)
        while tag is None:
            current = self._files.tagged(RECORD)
            stale = None if current is None else self._watch(current)
            tag = self._files.replace(RECORD, self._bytes(), stale)
        self._tag = tag

    def _watch(self, current: tuple[bytes, str]) -> str | None:
        """The ETag, once it was unchanged for `STALE_S` seconds of successful reads; None if the record is gone.

        Raises:
            RunBusyError: if it changed.
        """
        holder = _parsed(current[0])
        question = f"is the driver on {holder.get('host')} (process {holder.get('pid')}) alive?"
        sys.stderr.write(plain(f"{self._item}: {question} Watching it for {STALE_S:.0f} s.") + "\n")
        start = time.monotonic()
        while time.monotonic() - start < STALE_S:
            time.sleep(BEAT_S / 2)
            asked = time.monotonic()
            latest = self._files.tagged(RECORD)
            if latest is None:
                return None
            if latest[1] != current[1]:
                raise busy(holder, self._item)
            if time.monotonic() - asked > BEAT_S:
                start = time.monotonic()  # the server was away; so may have been the holder's beats
        return current[1]

    def beat(self) -> bool:
        """Renew the record, once acquired; whether the lease is still held."""
        if not self._tag:
            return True
        files = self._files.impatient()  # the next beat is soon
        tag = files.replace(RECORD, self._bytes(), self._tag)
        if tag is None:
            current = files.tagged(RECORD)
            if current is None or _parsed(current[0]).get("holder") != self._me["holder"]:
                return False
            tag = current[1]  # an earlier beat's, whose answer was lost
        self._tag = tag
        return True

    def release(self) -> None:
        """Delete the record if still held. A refusal is ignored: the record goes stale, and hides no earlier error."""
        # A delete has no condition (Ceph ignores If-Match there). A driver that takes a stale lease over between the two
        # requests loses its record; its next beat finds that out and stops it, and no file is written twice.
        files = self._files.impatient()
        with suppress(StorageError):
            current = files.tagged(RECORD)
            if current is not None and current[1] == self._tag:
                files.delete(RECORD)

    def _bytes(self) -> bytes:
        self._beats += 1
        return to_json({**self._me, "beat": self._beats})


@contextmanager
def _beating(records: Sequence[_Record], lease: Lease) -> Iterator[None]:
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            for record in records:
                try:
                    if not record.beat():
                        lease.lose(
                            "another driver has taken this run over, since this one gave no sign of life for long"
                        )
                        return
                except StorageError:
                    continue  # the server is away; who else could look?

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
