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
from stl_ray.images.schema import class_names_of, features_of
from stl_ray.store import Storage

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Record:
    """One row: the encoded image and its file name where there are any, the label (-1 for null), the id or None."""

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
        image: name of the image column.
        label: name of the label column, None where there is none.
        id: name of the id column, None where there is none.
    """

    storage: Storage
    path: str
    rows: int
    class_names: list[str] | None
    image: str
    label: str | None
    id: str | None

    @classmethod
    def open(cls, storage: Storage, path: str) -> "ImageFile":
        """Read the footer.

        Raises:
            InputError: no such file, truncated, not Parquet, or without a usable image or label column.
        """
        item = storage.at(path)
        with _parquet(storage, path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        image, label = _column(schema, "image", "Image"), _column(schema, "label", "ClassLabel")
        if image is None or not _holds_bytes(schema.field(image).type):
            expected = "a column `image` of type struct<bytes: binary, path: string> or binary"
            raise InputError("no image column", item=item, expected=expected, got=", ".join(map(str, schema)))
        if label is not None and not pa.types.is_integer(schema.field(label).type):
            got = schema.field(label).type
            raise InputError(f"column {label!r} is no label", item=item, expected="integers", got=got)
        names = class_names_of(schema, label) if label is not None else None
        return cls(storage, path, rows, names, image, label, "id" if "id" in schema.names else None)

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
        columns = [name for name in (self.image, self.label, self.id) if name is not None]
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
        image = values[self.image]
        data, path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
        label = None if self.label is None else values[self.label]
        name = None if self.id is None else values[self.id]
        return Record(
            row=row,
            data=data or None,
            path=path,
            label=UNKNOWN_LABEL if label is None else label,
            id=None if name is None else str(name),
        )


def _column(schema: pa.Schema, name: str, feature: str) -> str | None:
    """The column of that name, or else the first that Hugging Face metadata gives that type."""
    if name in schema.names:
        return name
    marked = [
        column
        for column, value in features_of(schema).items()
        if isinstance(value, dict) and value.get("_type") == feature and column in schema.names
    ]
    return marked[0] if marked else None


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


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
