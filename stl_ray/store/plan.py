"""The plan of a run: one row for each source shard, in one Parquet file that workers read a few rows of.

The plan of a million images holds a million names; it is streamed into the file, and nobody keeps all of it in memory.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stl_ray.errors import StorageError
from stl_ray.store.filesystem import Storage, canonical_json

FILE = "plan.parquet"

# Rows that are read to reach one of them: few, since the row of a folder's shard lists a thousand files.
_GROUP = 8

_DIGEST, _NOTES = b"plan_digest", b"notes"
_SCHEMA = pa.schema([("number", pa.int32()), ("source", pa.string()), ("rows", pa.int64()), ("digest", pa.string())])


@dataclass(frozen=True)
class PlannedShard:
    """One unit of work: a piece of the source that becomes one part.

    Args:
        number: position in the plan and in the dataset.
        source: JSON-able; what the job needs to find the rows.
        rows: rows that the source holds; each comes out or is quarantined.
        digest: of the source's content or name.
    """

    number: int
    source: dict[str, Any]
    rows: int
    digest: str


def plan_file(shards: Iterable[PlannedShard], notes: Callable[[], Mapping[str, Any]] = dict) -> tuple[bytes, str]:
    """The Parquet bytes of a plan, and its digest (sha256, hexadecimal).

    Args:
        shards: numbered from 0 in order; taken a few at a time.
        notes: gives further findings of planning, once all shards were taken; JSON-able, not part of the digest.
    """
    sink, digest, remaining = io.BytesIO(), hashlib.sha256(), iter(shards)
    with pq.ParquetWriter(sink, _SCHEMA, compression="zstd") as writer:
        while group := list(islice(remaining, _GROUP)):
            rows = [asdict(shard) for shard in group]
            for row in rows:
                digest.update(canonical_json(row) + b"\n")
                row["source"] = json.dumps(row["source"], sort_keys=True)
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), row_group_size=_GROUP)
        metadata = {_DIGEST: digest.hexdigest().encode(), _NOTES: canonical_json(notes())}
        writer.add_key_value_metadata(metadata)
    return sink.getvalue(), digest.hexdigest()


@dataclass(frozen=True)
class Plan:
    """The plan in a run's folder.

    Attributes:
        storage: of the run.
        rows: int64, of every shard, by its number.
        digest: as `plan_file` gave it.
        notes: as `plan_file` got them; empty for a plan of an earlier version.
    """

    storage: Storage
    rows: NDArray[np.int64]
    digest: str
    notes: dict[str, Any]

    @classmethod
    def of(cls, storage: Storage) -> "Plan":
        """Read the numbers of rows, not the sources.

        Raises:
            StorageError: if it is missing or damaged.
        """
        with _opened(storage) as file:
            metadata = file.metadata.metadata or {}
            rows = file.read(columns=["rows"]).column("rows").to_numpy()
            return cls(storage, rows, metadata.get(_DIGEST, b"").decode(), json.loads(metadata.get(_NOTES, b"{}")))

    def __iter__(self) -> Iterator[PlannedShard]:
        """All shards, a few in memory at a time."""
        with _opened(self.storage) as file:
            for group in range(file.metadata.num_row_groups):
                yield from _shards(file.read_row_group(group))


def read_shard(storage: Storage, number: int) -> PlannedShard:
    """One shard of the plan in a run's folder.

    Raises:
        StorageError: if the plan is missing or damaged.
    """
    with _opened(storage) as file:
        return _shards(file.read_row_group(number // _GROUP))[number % _GROUP]


def _shards(table: pa.Table) -> list[PlannedShard]:
    return [PlannedShard(**{**row, "source": json.loads(row["source"])}) for row in table.to_pylist()]


def _opened(storage: Storage) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(storage.reader(FILE))
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(f"not a whole Parquet file ({error})", item=storage.at(FILE)) from error
