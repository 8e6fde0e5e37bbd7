"""Rows of a table that are kept compressed: the listing of a dataset has to stay in memory while it is planned."""

from typing import Any

import pyarrow as pa

_ROWS = 4096  # as Python objects at once


class PackedRows:
    """Rows that come one at a time and are compressed some thousand at a time.

    Args:
        schema: of the rows.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.count = 0
        self._schema = schema
        self._rows: list[tuple[Any, ...]] = []
        self._sink = pa.BufferOutputStream()
        self._stream = pa.ipc.new_stream(self._sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))

    def append(self, row: tuple[Any, ...]) -> None:
        """Add a row, its values in the order of the schema."""
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == _ROWS:
            self._flush()

    def close(self) -> pa.Buffer:
        """The rows as `unpacked` reads them; none can be added any more."""
        self._flush()
        self._stream.close()
        return self._sink.getvalue()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(zip(*self._rows, strict=True), self._schema.types, strict=True)
            arrays = [pa.array(column, kind) for column, kind in columns]
            self._stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
            self._rows = []


def unpacked(packed: pa.Buffer) -> pa.Table:
    """All rows, in their order."""
    with pa.ipc.open_stream(packed) as stream:
        return stream.read_all()
