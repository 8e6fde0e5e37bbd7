"""Files on a local or shared disk: write, fsync, rename."""

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stl_ray.errors import StorageError
from stl_ray.store.filesystem import FileInfo

UNFINISHED = ".tmp-"
"""How the names of files begin that are still being written, or whose writer died."""


@dataclass(frozen=True)
class LocalFiles:
    """Files below a folder (see `store.filesystem.Files`)."""

    root: Path

    def impatient(self) -> "LocalFiles":
        """The same: it never waits."""
        return self

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return (self.root / path).exists()

    def names(self, folder: str) -> list[str]:
        """Sorted names of the finished files and the folders in a folder; empty where there is none."""
        place = self.root / folder
        with _explained(place):
            if not place.is_dir():
                return []
            return sorted(name for name in os.listdir(place) if not name.startswith(UNFINISHED))  # noqa: PTH208

    def folders(self, folder: str) -> list[str]:
        """Those of the names that are folders."""
        place = self.root / folder
        with _explained(place):
            return sorted(entry.name for entry in os.scandir(place) if entry.is_dir()) if place.is_dir() else []

    def walk(self, folder: str) -> Iterator[FileInfo]:
        """Every finished file below a folder, in the order of their paths; a link whose target is gone has size -1."""
        place = self.root / folder
        with _explained(place):
            if not place.is_dir():
                return
            # As an object store sorts them, where the slash is a letter like any other.
            entries = sorted(os.scandir(place), key=lambda entry: entry.name + "/" * entry.is_dir())
        prefix = f"{folder}/" if folder else ""
        for entry in entries:
            if entry.is_dir():
                yield from self.walk(f"{prefix}{entry.name}")
            elif not entry.name.startswith(UNFINISHED):
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    yield FileInfo(f"{prefix}{entry.name}", -1, "missing")
                else:
                    yield FileInfo(f"{prefix}{entry.name}", status.st_size, str(status.st_mtime_ns))

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file from `start`, all when `length` is None."""
        with _explained(self.root / path), (self.root / path).open("rb") as file:
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def size(self, path: str) -> int:
        """Bytes of a file."""
        with _explained(self.root / path):
            return (self.root / path).stat().st_size

    def write(self, path: str, data: bytes) -> None:
        """Put a whole file in place."""
        self._publish(path, data, Path.replace)

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole file in place unless there is one; whether this call did it."""
        try:
            self._publish(path, data, _link)
        except _TakenError:
            return False
        return True

    def delete(self, path: str) -> None:
        """Remove a file; no error if it is not there."""
        with _explained(self.root / path):
            (self.root / path).unlink(missing_ok=True)

    def _publish(self, path: str, data: bytes, move: Callable[[Path, Path], object]) -> None:
        final = self.root / path
        temporary = final.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
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
