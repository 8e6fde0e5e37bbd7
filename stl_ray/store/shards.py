"""A shard is one Parquet file: table to bytes and back, with the settings that make the bytes repeatable."""

import hashlib
import io
from collections.abc import Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from stl_ray.errors import StorageError
from stl_ray.store.filesystem import Storage

ROW_GROUP = 256


def table_to_bytes(table: pa.Table) -> bytes:
    """The Parquet bytes of a table: zstd, row groups of 256, the same bytes for the same rows."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP)
    return sink.getvalue()


def table_from_bytes(data: bytes, *, item: object) -> pa.Table:
    """The table in a Parquet file.

    Raises:
        StorageError: if the bytes are not a whole Parquet file.
    """
    try:
        return pq.read_table(io.BytesIO(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(f"not a whole Parquet file ({error})", item=item) from error


def ids_of(storage: Storage, file: str) -> list[str]:
    """The id column of a Parquet file, without reading its images.

    Raises:
        StorageError: if the file cannot be read, or has no such column.
    """
    ids: list[str] = columns_of(storage, file, ["id"]).column("id").to_pylist()
    return ids


def columns_of(storage: Storage, file: str, names: Sequence[str]) -> pa.Table:
    """Some columns of a Parquet file, read by their own ranges; the schema's metadata is the file's.

    Raises:
        StorageError: if the file cannot be read, or lacks one of them.
    """
    with storage.reader(file) as reader:
        return _columns(reader, names, item=storage.at(file))[0]


def schema_of(storage: Storage, file: str) -> pa.Schema:
    """The schema of a Parquet file, from its footer.

    Raises:
        StorageError: if the file cannot be read.
    """
    with storage.reader(file) as reader:
        return _columns(reader, [], item=storage.at(file))[1]


def ids_and_schema(file: BinaryIO, *, item: object) -> tuple[list[str], pa.Schema]:
    """The id column of a Parquet file, and its schema.

    Raises:
        StorageError: if it is not a whole Parquet file, or has no such column.
    """
    table, schema = _columns(file, ["id"], item=item)
    return table.column("id").to_pylist(), schema


def _columns(file: BinaryIO, names: Sequence[str], *, item: object) -> tuple[pa.Table, pa.Schema]:
    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            missing = [name for name in names if name not in schema.names]
            if missing:
                columns = ", ".join(missing)
                raise StorageError("a column is missing", item=item, expected=columns, got=schema.names)
            return opened.read(columns=list(names)).select(list(names)), schema
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(f"not a whole Parquet file ({error})", item=item) from error


def sha256(data: bytes) -> str:
    """The content digest that names parts and stands in receipts."""
    return hashlib.sha256(data).hexdigest()
