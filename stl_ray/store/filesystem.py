"""Bytes under a root folder. A file is either not there or whole: write, fsync, rename.

`create` publishes a record at most once, whoever asks first; `write` replaces.
"""

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from stl_ray.errors import StorageError


def _local_path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if "://" in uri:
        raise StorageError(
            "this kind of storage is not supported", item=uri, expected="a local or shared path, or a file:// URI"
        )
    return Path(uri)


@dataclass(frozen=True)
class Storage:
    """Files below one folder, named by relative POSIX paths."""

    root: Path

    @classmethod
    def open(cls, uri: str) -> "Storage":
        """The storage at a local path or file:// URI; nothing is created yet.

        Raises:
            StorageError: if the URI names a kind of storage that is not supported.
        """
        return cls(_local_path(uri).expanduser().resolve())

    def below(self, path: str) -> "Storage":
        """The storage of a sub-folder."""
        return Storage(self.root / path)

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return (self.root / path).exists()

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of the finished files and folders in a folder; empty where there is no such folder."""
        place = self.root / folder
        if not place.is_dir():
            return []
        return sorted(entry.name for entry in place.iterdir() if not entry.name.startswith(".tmp-"))

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises:
            StorageError: if it is missing or cannot be read.
        """
        with _explained(self.root / path):
            return (self.root / path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """Put a whole file in place, replacing one of the same name.

        Raises:
            StorageError: if the disk is full, read-only, or the like; the old file is then still there.
        """
        self._publish(path, data, Path.replace)

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole file in place unless one of the same name exists; whether this call did it.

        Raises:
            StorageError: as for `write`.
        """
        try:
            self._publish(path, data, _link)
        except _TakenError:
            return False
        return True

    def delete(self, path: str) -> None:
        """Remove a file; no error if it is not there."""
        with _explained(self.root / path):
            (self.root / path).unlink(missing_ok=True)

    def read_json(self, path: str) -> Any:
        """A JSON file, parsed.

        Raises:
            StorageError: if it is missing or not JSON.
        """
        try:
            return json.loads(self.read(path))
        except ValueError as error:
            raise StorageError(f"not a JSON file ({error})", item=self.root / path) from error

    def write_json(self, path: str, value: Any) -> None:
        """`write` of an indented JSON text."""
        self.write(path, to_json(value))

    def append_line(self, path: str, line: str) -> None:
        """Add one line to a log file."""
        with _explained(self.root / path):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            with (self.root / path).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def preflight(self) -> None:
        """Write and delete one file, so that a disk that cannot be written to fails before any work.

        Raises:
            StorageError: if it cannot be written to.
        """
        probe = f".preflight-{uuid.uuid4().hex}"
        self.write(probe, b"stl-ray")
        self.delete(probe)

    def _publish(self, path: str, data: bytes, move: Callable[[Path, Path], object]) -> None:
        final = self.root / path
        temporary = final.with_name(f".tmp-{uuid.uuid4().hex}")
        with _explained(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                move(temporary, final)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(final.parent)


class _TakenError(Exception):
    """Another writer published the name first."""


def _link(temporary: Path, final: Path) -> None:
    """A hard link fails when the name is taken, and shows the file only once all of it is written."""
    try:
        final.hardlink_to(temporary)
    except FileExistsError as error:
        raise _TakenError from error


def to_json(value: Any) -> bytes:
    """Indented JSON with a final newline; refuses NaN, which JSON does not have."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value, for digests: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_EXPLANATIONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this process may write",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        text = _EXPLANATIONS.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(text, item=path) from error
