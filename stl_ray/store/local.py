"""Files on a local or shared disk: write, fsync, rename; and walks that are safe from cycles of symbolic links."""

import errno
import os
import posixpath
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from stl_ray.errors import StorageError
from stl_ray.store.files import FileInfo

UNFINISHED = ".tmp-"
"""Prefix of unfinished files, which are still being written or whose writer died."""


@dataclass(frozen=True)
class LocalFiles:
    """Files below a folder (see `store.files.Files`)."""

    root: Path

    def impatient(self) -> "LocalFiles":
        """Itself, since it never waits."""
        return self

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        with _explained(self.root / path):
            return (self.root / path).exists()

    def names(self, folder: str) -> list[str]:
        """Sorted names of the finished files and the folders in a folder; empty where there is none."""
        if not self._is_folder(folder):
            return []
        with _explained(self.root / folder):
            return sorted(name for name in os.listdir(self.root / folder) if not name.startswith(UNFINISHED))  # noqa: PTH208

    def entries(self, folder: str) -> tuple[list[str], list[FileInfo]]:
        """Sorted names of the folders in a folder, and its finished files; none where there is no such folder."""
        listed = list(_Walk(self.root, folder).level(folder)) if self._is_folder(folder) else []
        folders = (posixpath.basename(path) for path, info in listed if info is None)
        return sorted(folders), [info for _, info in listed if info is not None]

    def walk(self, folder: str) -> Iterator[FileInfo]:
        """Every finished file below a folder, in the order of their paths."""
        if self._is_folder(folder):
            yield from _Walk(self.root, folder).below(folder)

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
        self._publish(path, BytesIO(data), Path.replace)

    def write_file(self, path: str, source: Path) -> None:
        """Put a whole file in place with the bytes of a file on this machine."""
        with _explained(source), source.open("rb") as data:
            self._publish(path, data, Path.replace)

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole file in place unless there is one; whether this call did it."""
        try:
            self._publish(path, BytesIO(data), _link)
        except _TakenError:
            return False
        return True

    def delete(self, path: str) -> None:
        """Remove a file; no error if it is not there."""
        with _explained(self.root / path):
            (self.root / path).unlink(missing_ok=True)

    def _is_folder(self, path: str) -> bool:
        with _explained(self.root / path):
            return (self.root / path).is_dir()

    def _publish(self, path: str, data: BinaryIO, move: Callable[[Path, Path], object]) -> None:
        final = self.root / path
        temporary = final.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        with _explained(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    shutil.copyfileobj(data, file)
                    file.flush()
                    os.fsync(file.fileno())
                move(temporary, final)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(final.parent)


class _Walk:
    """One walk, which enters every real folder once.

    It follows a link to a file, and to a folder elsewhere. It does not follow a link to a folder that has a path of its
    own already, below the root or below a folder elsewhere to which the root itself has a link; to a folder above the
    link, which holds the link; or to a folder that it entered before.

    Args:
        root: of the storage.
        folder: where the walk begins, relative to the root.
    """

    def __init__(self, root: Path, folder: str) -> None:
        parts = Path(folder).parts
        self._root = root
        # The real folders on the way from the root to the current folder.
        self._trail = [os.path.realpath(root.joinpath(*parts[:depth])) for depth in range(len(parts) + 1)]
        self._entered = {self._trail[-1]}

    def below(self, folder: str) -> Iterator[FileInfo]:
        """The files below a folder, in the order of their paths."""
        for path, info in self.level(folder):
            if info is not None:
                yield info
                continue
            self._trail.append(os.path.realpath(self._root / path))
            yield from self.below(path)
            self._trail.pop()

    def level(self, folder: str) -> Iterator[tuple[str, FileInfo | None]]:
        """The paths in the current folder, each with its file; with None for a folder to enter."""
        full_path = self._root / folder
        prefix = f"{folder}/" if folder else ""
        with _explained(full_path):
            with os.scandir(full_path) as scanned:
                entries = [(entry, _is_folder(entry)) for entry in scanned]
            # In the order of an object store, where the slash is a character like any other.
            for entry, is_folder in sorted(entries, key=lambda pair: pair[0].name + "/" * pair[1]):
                path = prefix + entry.name
                if is_folder:
                    real = os.path.realpath(entry.path)
                    again = real in self._entered or (entry.is_symlink() and self._has_a_path(real, folder))
                    if again:
                        yield path, FileInfo(path, -1, "a link that is not followed", real)
                    else:
                        self._entered.add(real)
                        yield path, None
                elif not entry.name.startswith(UNFINISHED):
                    yield path, _file_info(entry, path)

    def _has_a_path(self, real: str, folder: str) -> bool:
        """Whether a real folder, linked from a folder, lies where it is walked anyway, or holds the current folder."""
        if _within(real, self._trail[0]) or any(_within(step, real) for step in self._trail):
            return True
        return bool(folder) and any(_within(real, linked) for linked in self._linked)

    @cached_property
    def _linked(self) -> list[str]:
        """The real folders to which the root itself has links."""
        with _explained(self._root), os.scandir(self._root) as scanned:
            real = [os.path.realpath(entry.path) for entry in scanned if entry.is_symlink() and _is_folder(entry)]
        return [folder for folder in real if not _within(self._trail[0], folder)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return False
        raise


def _file_info(entry: os.DirEntry[str], path: str) -> FileInfo:
    try:
        status = entry.stat()
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return FileInfo(path, -1, "missing")
        raise
    return FileInfo(path, status.st_size, str(status.st_mtime_ns))


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


class _TakenError(Exception):
    """Another writer published the name first."""


def _link(temporary: Path, final: Path) -> None:
    """Publish by a hard link, which fails when the name is taken and shows the file only once it is whole."""
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
    errno.ELOOP: "a symbolic link that leads to itself",
}
# The errors of a link whose target is gone, is the link itself, or lies where this process may not look.
_NOTHING_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        text = _EXPLANATIONS.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(text, item=path) from error
