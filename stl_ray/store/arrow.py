"""Storages through pyarrow: every other scheme, such as gs://, abfss://, hdfs://.

pyarrow has no conditional writes: `create` looks first and then writes. One driver at a time is up to the user there.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

from stl_ray.errors import InputError, StorageError
from stl_ray.store.files import FileInfo
from stl_ray.uris import joined, split


@dataclass(frozen=True)
class ArrowFiles:
    """Files below a URI (see `store.files.Files`).

    Args:
        root: the URI.

    Raises:
        InputError: pyarrow knows no filesystem of this kind, or not with these options.
        StorageError: it has none here, such as hdfs without Java.
    """

    root: str

    def __post_init__(self) -> None:
        _opened(self.root)

    def impatient(self) -> "ArrowFiles":
        """Itself, since it never waits."""
        return self

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        with self._explained(path):
            return bool(self._files.get_file_info(self._full_path(path)).type != fs.FileType.NotFound)

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files and folders in a folder."""
        return sorted(entry.base_name for entry in self._selected(folder, recursive=False))

    def entries(self, folder: str) -> tuple[list[str], list[FileInfo]]:
        """Sorted names of the folders in a folder, and its files."""
        listed = self._selected(folder, recursive=False)
        folders = sorted(entry.base_name for entry in listed if entry.type == fs.FileType.Directory)
        return folders, self._infos(listed)

    def walk(self, folder: str) -> Iterator[FileInfo]:
        """Every file below a folder, in the order of their paths."""
        yield from self._infos(self._selected(folder, recursive=True))

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file from `start`, all when `length` is None."""
        with self._explained(path), self._files.open_input_file(self._full_path(path)) as file:
            file.seek(start)
            return bytes(file.read() if length is None else file.read(length))

    def size(self, path: str) -> int:
        """Bytes of a file."""
        with self._explained(path):
            info = self._files.get_file_info(self._full_path(path))
            if info.type != fs.FileType.File:
                raise FileNotFoundError(path)
            return int(info.size)

    def write(self, path: str, data: bytes) -> None:
        """Put a whole file in place; object stores show it when its stream is closed."""
        self._write(path, BytesIO(data))

    def write_file(self, path: str, source: Path) -> None:
        """Put a whole file in place with the bytes of a file on this machine."""
        with source.open("rb") as data:
            self._write(path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole file in place unless there is one; two simultaneous callers may both write it."""
        if self.exists(path):
            return False
        self.write(path, data)
        return True

    def delete(self, path: str) -> None:
        """Remove a file; no error if it is not there."""
        if self.exists(path):
            with self._explained(path):
                self._files.delete_file(self._full_path(path))

    def _write(self, path: str, data: BinaryIO) -> None:
        full_path = self._full_path(path)
        with self._explained(path):
            self._files.create_dir(full_path.rpartition("/")[0], recursive=True)
            with self._files.open_output_stream(full_path) as stream:
                shutil.copyfileobj(data, stream)

    @property
    def _files(self) -> fs.FileSystem:
        return _opened(self.root)[0]

    def _full_path(self, path: str) -> str:
        return joined(_opened(self.root)[1], path)

    def _selected(self, folder: str, *, recursive: bool) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self._full_path(folder), allow_not_found=True, recursive=recursive)
        with self._explained(folder):
            return list(self._files.get_file_info(selector))

    def _infos(self, listed: list[fs.FileInfo]) -> list[FileInfo]:
        skipped = len(self._full_path("").rstrip("/")) + 1
        files = sorted((entry for entry in listed if entry.type == fs.FileType.File), key=lambda entry: entry.path)
        return [FileInfo(entry.path[skipped:], entry.size, str(entry.mtime_ns)) for entry in files]

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        item = joined(self.root, path)
        try:
            yield
        except FileNotFoundError as error:
            raise StorageError("there is no such file", item=item) from error
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"the storage refused ({error})", item=item) from error


@lru_cache(maxsize=64)
def _opened(root: str) -> tuple[fs.FileSystem, str]:
    scheme, host, key, options = split(root)
    try:
        # pyarrow decodes %XX, and cuts off what follows #.
        files, path = fs.FileSystem.from_uri(f"{scheme}://{host}/{quote(key)}{'?' * bool(options)}{options}")
    except ValueError as error:  # ArrowInvalid is one
        raise InputError(
            f"this kind of storage is not supported ({error})", item=root,
            expected="a path, or a URI such as s3://bucket/folder or gs://bucket/folder",
        ) from error  # fmt: skip
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"this kind of storage cannot be used here ({error})", item=root) from error
    return files, path
