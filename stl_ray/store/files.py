"""The interface of every kind of storage, and its record of a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class FileInfo:
    """A file of a storage.

    Attributes:
        path: relative to the storage's root.
        size: in bytes; -1 for a symbolic link that leads to no file.
        stamp: changes with the content (time of change, or ETag).
        leads_to: the real folder behind a symbolic link that is not followed; None for everything else.
    """

    path: str
    size: int
    stamp: str
    leads_to: str | None = None


class Files(Protocol):
    """The operations of every kind of storage, which raise StorageError; paths are relative to its root."""

    def impatient(self) -> "Files":
        """The same files, without waiting for a storage that is away."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such a file, or a folder with something in it."""
        ...

    def names(self, folder: str) -> list[str]:
        """Sorted names of the finished files and the folders in a folder; empty where there is none."""
        ...

    def entries(self, folder: str) -> tuple[list[str], list[FileInfo]]:
        """Sorted names of the folders in a folder, and its finished files."""
        ...

    def walk(self, folder: str) -> Iterator[FileInfo]:
        """Every finished file below a folder, in the order of their paths."""
        ...

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file from `start`, all when `length` is None."""
        ...

    def size(self, path: str) -> int:
        """Bytes of a file."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Put a whole file in place."""
        ...

    def write_file(self, path: str, source: Path) -> None:
        """Put a whole file in place with the bytes of a file on this machine, which are never all in memory."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole file in place unless there is one; whether this call did it."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file; no error if it is not there."""
        ...
