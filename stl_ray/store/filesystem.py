"""Bytes under a root folder or bucket. A file is either not there or whole.

`create` publishes a record at most once, whoever asks first; `write` replaces. Each scheme is in a file of its own: local,
s3, arrow (every other scheme of pyarrow); their interface is in files.
"""

import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from stl_ray.errors import InputError, StorageError
from stl_ray.store.files import FileInfo, Files
from stl_ray.uris import is_uri, joined, normalized, parted, split

# A header, a footer or a small column costs one request; images are read by their own ranges.
_READ_AHEAD = 64 * 1024


@dataclass(frozen=True)
class Storage:
    """Files below one root, named by relative POSIX paths.

    Args:
        root: absolute path, or URI (perhaps with options), without a slash at the end.
    """

    root: str

    @classmethod
    def open(cls, uri: str) -> "Storage":
        """The storage at a path or URI; nothing is created yet.

        Raises:
            InputError: it cannot be written so (`uris.normalized`), or no storage of this kind is known.
            StorageError: this kind of storage cannot be used here.
        """
        storage = cls(normalized(uri))
        storage.files  # noqa: B018 - an unknown scheme is refused here, not at the first read
        return storage

    @classmethod
    def of_file(cls, uri: str) -> tuple["Storage", str]:
        """The storage of the folder that a file lies in, and the file's name there.

        Raises:
            InputError, StorageError: as for `open`.
        """
        folder, name = parted(normalized(uri))
        return cls.open(folder), name

    @property
    def files(self) -> Files:
        """The implementation for the scheme of the root."""
        return _files(self.root)

    @property
    def folder(self) -> Path | None:
        """The local folder, None for a storage elsewhere."""
        return None if is_uri(self.root) else Path(self.root)

    def below(self, path: str) -> "Storage":
        """The storage of a sub-folder.

        Raises:
            InputError: if its name reads like options of a URI.
        """
        below = joined(self.root, path)
        if is_uri(below) and split(below).options != split(self.root).options:
            raise InputError("a folder whose name reads like options of a URI", item=below, expected="no ?name in it")
        return Storage(below)

    def at(self, path: str) -> str:
        """The full path or URI of a file, for messages and for others to open."""
        return joined(self.root, path)

    def exists(self, path: str) -> bool:
        """Whether there is such a file, or a folder with something in it."""
        return self.files.exists(path)

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of the finished files and the folders in a folder; empty where there is no such folder."""
        return self.files.names(folder)

    def entries(self, folder: str = "") -> tuple[list[str], list[FileInfo]]:
        """Sorted names of the folders in a folder, and its finished files; links as in `walk`."""
        return self.files.entries(folder)

    def walk(self, folder: str = "") -> Iterator[FileInfo]:
        """Every finished file below a folder, in the order of their paths, a page in memory at a time.

        On a disk symbolic links are followed, and every real folder is entered once: a link to a folder that lies below
        the root or below one that the root links to, that holds the link, or that was entered before comes as a file of
        size -1 with `leads_to`. A link whose target is gone has size -1 too.
        """
        return self.files.walk(folder)

    def size(self, path: str) -> int:
        """Bytes of a file.

        Raises:
            StorageError: if it is missing.
        """
        return self.files.size(path)

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file, or `length` of them from `start`; fewer at its end.

        Raises:
            StorageError: if it is missing or cannot be read.
        """
        return self.files.read(path, start, length)

    def reader(self, path: str, ahead: int = _READ_AHEAD) -> BinaryIO:
        """A file to seek and read in, a little at a time, but no less than `ahead` bytes from the storage.

        Raises:
            StorageError: if it is missing or cannot be read.
        """
        size = self.size(path)
        return cast(BinaryIO, io.BufferedReader(_Ranges(self.files, path, size), ahead))

    def write(self, path: str, data: bytes) -> None:
        """Put a whole file in place, replacing one of the same name.

        Raises:
            StorageError: if the storage refuses; the old file is then still there.
        """
        self.files.write(path, data)

    def write_file(self, path: str, source: Path) -> None:
        """`write` of the bytes of a file on this machine, which are never all in memory.

        Raises:
            StorageError: as for `write`.
        """
        self.files.write_file(path, source)

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole file in place unless one of the same name exists; whether this call did it.

        Raises:
            StorageError: as for `write`.
        """
        return self.files.create(path, data)

    def delete(self, path: str) -> None:
        """Remove a file; no error if it is not there."""
        self.files.delete(path)

    def read_json(self, path: str) -> Any:
        """A JSON file, parsed.

        Raises:
            StorageError: if it is missing or not JSON.
        """
        try:
            return json.loads(self.read(path))
        except ValueError as error:
            raise StorageError(f"not a JSON file ({error})", item=self.at(path)) from error

    def write_json(self, path: str, value: Any) -> None:
        """`write` of an indented JSON text."""
        self.write(path, to_json(value))

    def preflight(self) -> None:
        """Write and delete one file, so that a storage that refuses writes fails before any work.

        Raises:
            StorageError: if it cannot be written to.
        """
        probe = f".preflight-{uuid.uuid4().hex}"
        files = self.files.impatient()
        files.write(probe, b"stl-ray")
        files.delete(probe)


class _Ranges(io.RawIOBase):
    """A file read by ranges."""

    def __init__(self, files: Files, path: str, size: int) -> None:
        super().__init__()
        self._files, self._path, self._size, self._position = files, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), max(self._size - self._position, 0))
        data = self._files.read(self._path, self._position, length) if length else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@lru_cache(maxsize=256)
def _files(root: str) -> Files:
    if not is_uri(root):
        from stl_ray.store.local import LocalFiles

        return LocalFiles(Path(root))
    if split(root).scheme == "s3":
        from stl_ray.store.s3 import S3Files

        return S3Files(root)
    from stl_ray.store.arrow import ArrowFiles

    return ArrowFiles(root)


def to_json(value: Any) -> bytes:
    """Indented JSON with a final newline; refuses NaN, which JSON does not have."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value, for digests: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
