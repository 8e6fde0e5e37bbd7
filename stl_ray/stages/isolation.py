"""Finding the row that kills its worker: the shard is made in child processes, in halves of halves.

A row is blamed only when it killed its process twice, alone, while another row of the shard survived; where nothing
survives, it is the machine that is not well.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cloudpickle
import pyarrow as pa

from stl_ray.errors import IncompleteRunError, QuarantineReason
from stl_ray.stages.computing import bind
from stl_ray.stages.works import ShardOutput, ShardWork
from stl_ray.store import PlannedShard, QuarantinedRow
from stl_ray.store.receipts import QUARANTINE_SCHEMA
from stl_ray.store.shards import table_from_bytes, table_to_bytes

_TASK, _TABLE, _QUARANTINE, _ERROR = "task", "table.parquet", "quarantine.parquet", "error"
_RAISED = 3


def isolate(
    make_work: Callable[[], ShardWork], work: ShardWork, run: str, shard: PlannedShard, threads: int
) -> ShardOutput:
    """Make a shard without the rows that kill the process that makes them; those are set aside.

    Args:
        make_work: makes the work in a child process; picklable.
        work: the same in this process, which only looks up the rows to blame.
        run: its name.
        shard: what to make.
        threads: of a child.

    Raises:
        IncompleteRunError: if no row at all survives, or a child raised an error.
    """
    child = _Child(make_work, run, shard, threads)
    if not child.survives(range(shard.rows)):
        _bisect(child, range(shard.rows))
    if child.blamed and not (child.pieces and child.make(sorted(child.pieces)[:1])):
        raise IncompleteRunError(
            "every image kills its worker, so it is the machine that is not well, or its memory too small",
            item=f"{run} shard {shard.number}",
        )
    outputs = [child.pieces[first] for first in sorted(child.pieces)]
    quarantine = [row for output in outputs for row in output.quarantine]
    for row in child.blamed:
        raw = work.raw(run, shard, row)
        message = "the process that makes this image dies of it, whereas others of its shard are made"
        quarantine.append(QuarantinedRow(raw.id, QuarantineReason.KILLS_WORKER, message, raw.data))
    return ShardOutput(pa.concat_tables([output.table for output in outputs]), quarantine)


def _bisect(child: "_Child", rows: Sequence[int]) -> None:
    """Make rows that died together."""
    if len(rows) == 1:
        if not child.survives(rows):
            child.blamed.append(rows[0])
        return
    for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        if not child.survives(half):
            _bisect(child, half)


@dataclass
class _Child:
    """Makes rows of a shard in a process of its own.

    Attributes:
        pieces: what was made, by the first row of it.
        blamed: the rows that died alone, twice.
    """

    make_work: Callable[[], ShardWork]
    run: str
    shard: PlannedShard
    threads: int
    pieces: dict[int, ShardOutput] = field(default_factory=dict)
    blamed: list[int] = field(default_factory=list)

    def survives(self, rows: Sequence[int]) -> bool:
        """Whether a process that makes these rows lives to its end; what it made is kept."""
        output = self.make(rows)
        if output is not None:
            self.pieces[rows[0]] = output
        return output is not None

    def make(self, rows: Sequence[int]) -> ShardOutput | None:
        """What a process makes of these rows, None if it died."""
        # Ray's own processes cannot fork; a fresh interpreter finds modules where this one does.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            task = (self.make_work, self.run, self.shard, list(rows), self.threads)
            (folder / _TASK).write_bytes(cloudpickle.dumps(task))
            command = [sys.executable, "-m", "stl_ray.stages.isolation", name]
            status = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
            if status == _RAISED:
                raise IncompleteRunError((folder / _ERROR).read_text(), item=f"{self.run} shard {self.shard.number}")
            if status != 0:
                return None
            table = table_from_bytes((folder / _TABLE).read_bytes(), item=_TABLE)
            quarantine = table_from_bytes((folder / _QUARANTINE).read_bytes(), item=_QUARANTINE).to_pylist()
        return ShardOutput(table, [QuarantinedRow(**row) for row in quarantine])


def _main(folder: Path) -> int:
    """The child: make the rows of the task in the folder, and leave there what came of it."""
    make_work, run, shard, rows, threads = cloudpickle.loads((folder / _TASK).read_bytes())
    bind(threads)
    try:
        output = make_work()(run, shard, rows)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
        (folder / _ERROR).write_text(f"{type(error).__name__}: {error}")
        return _RAISED
    (folder / _TABLE).write_bytes(table_to_bytes(output.table))
    quarantine = pa.Table.from_pylist([asdict(row) for row in output.quarantine], schema=QUARANTINE_SCHEMA)
    (folder / _QUARANTINE).write_bytes(table_to_bytes(quarantine))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
