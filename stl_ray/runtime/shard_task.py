"""The task of a job, which makes shards, and the base of the tasks that read a finished dataset."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from stl_ray.store import PlannedShard, QuarantinedRow


@dataclass(frozen=True)
class ShardOutput:
    """The output of a job for one shard: the rows that come out, in source order, and the rows set aside."""

    table: pa.Table
    quarantine: Sequence[QuarantinedRow] = ()


@dataclass(frozen=True)
class RawRow:
    """A row as the source has it: its id, and its bytes where there are any."""

    id: str
    data: bytes | None


class ShardTask(Protocol):
    """The task of a job, made once in every actor; several threads call it at once."""

    def __call__(self, run: str, shard: PlannedShard, rows: Collection[int] | None = None) -> ShardOutput:
        """Make one shard of the run of that name, or only the rows at some positions of its source."""
        ...

    def raw(self, run: str, shard: PlannedShard, row: int) -> RawRow:
        """The row at a position of the source, untouched by any decoder."""
        ...


class TableTask(ABC):
    """Work on the rows of Parquet shards."""

    @abstractmethod
    def table(self, run: str, shard: PlannedShard) -> pa.Table:
        """The rows of a shard's source: `id`, and perhaps `image`."""

    @abstractmethod
    def make(self, run: str, shard: PlannedShard, table: pa.Table) -> ShardOutput:
        """Make the rows of a table, all or some of the shard's."""

    def __call__(self, run: str, shard: PlannedShard, rows: Collection[int] | None = None) -> ShardOutput:
        """Make one shard, or only the rows at some positions."""
        table = self.table(run, shard)
        return self.make(run, shard, table if rows is None else table.take(sorted(rows)))

    def raw(self, run: str, shard: PlannedShard, row: int) -> RawRow:
        """One row as it is stored."""
        record = self.table(run, shard).slice(row, 1).to_pylist()[0]
        image = record.get("image")
        return RawRow(record["id"], image["bytes"] if isinstance(image, dict) else None)
