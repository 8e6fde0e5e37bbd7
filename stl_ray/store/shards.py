"""A shard is one Parquet file: table to bytes and back, with the settings that make the bytes repeatable."""

import hashlib
import io
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
    with storage.reader(file) as reader:
        return ids_and_schema(reader, item=storage.at(file))[0]


def ids_and_schema(file: BinaryIO, *, item: object) -> tuple[list[str], pa.Schema]:
    """The id column of a Parquet file, and its schema.

    Raises:
        StorageError: if it is not a whole Parquet file, or has no such column.
    """
    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            if "id" not in schema.names:
                raise StorageError("not a shard: it has no ids", item=item, expected="a column id", got=schema.names)
            return opened.read(columns=["id"]).column("id").to_pylist(), schema
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(f"not a whole Parquet file ({error})", item=item) from error


def sha256(data: bytes) -> str:
    """The content digest that names parts and stands in receipts."""
    return hashlib.sha256(data).hexdigest()
