"""One Parquet file of images: its image, label and id columns, its rows, and errors that name it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stl_ray.errors import InputError, StorageError
from stl_ray.images.readers.base import UNKNOWN_LABEL
from stl_ray.images.readers.matching import require
from stl_ray.images.readers.parquet_columns import Columns, columns_of, text_of
from stl_ray.images.schema import class_names_of
from stl_ray.store import Storage

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Record:
    """One row: the encoded image and its file name where there are any, the label (-1 for null or a name), the id or None."""

    row: int
    data: bytes | None
    path: str | None
    label: int
    id: str | None


@dataclass(frozen=True)
class ImageFile:
    """A Parquet file of images, as its footer describes it.

    Attributes:
        storage: holds the file.
        path: of the file in the storage.
        rows: number of rows.
        class_names: of the labels, None where the metadata has none.
        columns: names of its columns.
        has_bytes: whether any row may have an image, by the column's statistics.
    """

    storage: Storage
    path: str
    rows: int
    class_names: list[str] | None
    columns: Columns
    has_bytes: bool

    @classmethod
    def open(cls, storage: Storage, path: str) -> "ImageFile":
        """Read the footer.

        Raises:
            InputError: no such file, truncated, not Parquet, or its columns cannot be used (`columns_of`).
        """
        with _parquet(storage, path) as file:
            schema, metadata = file.schema_arrow, file.metadata
        columns = columns_of(schema, storage.at(path))
        names = class_names_of(schema, columns.label)
        return cls(storage, path, metadata.num_rows, names, columns, _may_have_bytes(metadata, columns.image))

    @property
    def at(self) -> str:
        """The full path or URI."""
        return self.storage.at(self.path)

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column.

        Raises:
            InputError: the file is damaged.
        """
        with _parquet(self.storage, self.path) as file:
            return file.read(columns=[name]).column(name)

    def records(self, start: int, stop: int) -> Iterator[Record]:
        """The rows from `start` to before `stop`, a few in memory at a time.

        Raises:
            InputError: the file is damaged.
        """
        columns = [name for name in (self.columns.image, self.columns.label, self.columns.id) if name is not None]
        with _parquet(self.storage, self.path) as file:
            row, groups = _row_groups(file.metadata, start, stop)
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=groups, columns=columns):
                skipped = min(max(start - row, 0), len(batch))
                wanted = batch.slice(skipped, max(stop - row - skipped, 0))
                for number, values in enumerate(wanted.to_pylist(), start=row + skipped):
                    yield self._record(number, values)
                row += len(batch)

    def digest(self) -> str:
        """Sha256 over the file's size and footer: its counts, offsets and column statistics, but not every pixel."""
        with _explained(self.storage, self.path):
            size = self.storage.size(self.path)
            length = int.from_bytes(self.storage.read(self.path, size - 8, 4), "little")
            footer = self.storage.read(self.path, size - 8 - length, length)
        return hashlib.sha256(str(size).encode() + footer).hexdigest()

    def _record(self, row: int, values: dict[str, Any]) -> Record:
        image, label = values[self.columns.image], values[self.columns.label]
        data, path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
        return Record(
            row=row,
            data=data or None,
            path=text_of(path),
            label=UNKNOWN_LABEL if label is None or self.columns.has_names else label,
            id=None if self.columns.id is None else text_of(values[self.columns.id]),
        )


def _may_have_bytes(metadata: pq.FileMetaData, image: str) -> bool:
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema in {image, f"{image}.bytes"}:
                nulls = column.statistics.null_count if column.is_stats_set else None
                if nulls is None or nulls < group.num_rows:
                    return True
    return False


def _row_groups(metadata: pq.FileMetaData, start: int, stop: int) -> tuple[int, list[int]]:
    """The row groups that hold rows from `start` to before `stop`, and the first one's first row."""
    groups: list[int] = []
    first = row = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if row < stop and row + rows > start:
            first = first if groups else row
            groups.append(group)
        row += rows
    return first, groups


@contextmanager
def _parquet(storage: Storage, path: str) -> Iterator[pq.ParquetFile]:
    with _explained(storage, path), storage.reader(path) as stream, pq.ParquetFile(stream) as file:
        yield file


@contextmanager
def _explained(storage: Storage, path: str) -> Iterator[None]:
    """Turn what pyarrow raises on missing and damaged files into an InputError that names the file."""
    try:
        yield
    except StorageError as error:
        require(storage, path, error)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable Parquet file, or truncated ({error})", item=storage.at(path)) from error
