"""Finding the row that kills its worker: the shard is made in child processes, in halves of halves.

A row is blamed only when it killed its process, alone, before and after another row of the shard survived; where none
survives, it is the machine that is not well.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cloudpickle
import pyarrow as pa

from stl_ray.errors import IncompleteRunError, QuarantineReason
from stl_ray.runtime.concurrency import bind, ending_with_device
from stl_ray.runtime.shard_task import ShardOutput, ShardTask
from stl_ray.store import PlannedShard, QuarantinedRow
from stl_ray.store.receipts import QUARANTINE_SCHEMA
from stl_ray.store.shards import table_from_bytes, table_to_bytes

_TASK, _TABLE, _QUARANTINE, _ERROR = "task", "table.parquet", "quarantine.parquet", "error"
_RAISED = 3

# Rows, spread over the shard, of which one must survive alone; it then shows again and again that the machine is well.
_CONTROLS = 8


def bisect(
    make_task: Callable[[], ShardTask], work: ShardTask, run: str, shard: PlannedShard, threads: int
) -> ShardOutput:
    """Make a shard without the rows that kill the process that makes them; these are set aside.

    Args:
        make_task: makes the task in a child process; picklable.
        work: the task in this process, which only looks up the rows to blame.
        run: name of the run.
        shard: to make.
        threads: of a child.

    Raises:
        IncompleteRunError: if no row survives, or none any more, or a child raised an error.
    """
    child = _Child(make_task, run, shard, threads)
    everything = range(shard.rows)
    if not child.survives(everything):
        child.find_control(everything[:: -(-shard.rows // _CONTROLS)])
        _bisect(child, everything)
    outputs = [child.pieces[first] for first in sorted(child.pieces)]
    quarantine = [row for output in outputs for row in output.quarantine]
    for row in child.blamed:
        raw = work.raw(run, shard, row)
        message = "the process that makes this image dies of it, whereas others of its shard are made"
        quarantine.append(QuarantinedRow(raw.id, QuarantineReason.KILLS_WORKER, message, raw.data))
    return ShardOutput(pa.concat_tables([output.table for output in outputs]), quarantine)


def _bisect(child: "_Child", rows: Sequence[int]) -> None:
    """Make, by halves, rows whose process died; a single row is blamed if its process dies again."""
    if len(rows) == 1:
        child.require_control()
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
        pieces: the outputs, each by its first row.
        blamed: the rows that died alone, twice.
        control: a row that survived alone.
    """

    make_task: Callable[[], ShardTask]
    run: str
    shard: PlannedShard
    threads: int
    pieces: dict[int, ShardOutput] = field(default_factory=dict)
    blamed: list[int] = field(default_factory=list)
    control: int | None = None

    def survives(self, rows: Sequence[int]) -> bool:
        """Whether a process that makes these rows lives to its end; its output is kept."""
        output = self.make(rows)
        if output is not None:
            self.pieces[rows[0]] = output
        return output is not None

    def find_control(self, rows: Sequence[int]) -> None:
        """Take the first of these rows that survives alone, if possible one that is not set aside for another reason."""
        for row in rows:
            output = self.make([row])
            if output is not None:
                self.control = row
                if output.table.num_rows:
                    return
        if self.control is None:
            raise self._sick("every image kills its worker")

    def require_control(self) -> None:
        """Make sure that the row that survived alone still does."""
        if self.control is None or self.make([self.control]) is None:
            raise self._sick("an image kills its worker that did not before")

    def make(self, rows: Sequence[int]) -> ShardOutput | None:
        """The output of a process for these rows, None if it died."""
        # Ray's own processes cannot fork; a fresh interpreter finds modules where this one does.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            task = (self.make_task, self.run, self.shard, list(rows), self.threads)
            (folder / _TASK).write_bytes(cloudpickle.dumps(task))
            command = [sys.executable, "-m", "stl_ray.runtime.bisection", name]
            with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:
                status = process.wait()
            if status == _RAISED:
                message = (folder / _ERROR).read_text(encoding="utf-8")
                raise IncompleteRunError(message, item=f"{self.run} shard {self.shard.number}")
            if status != 0:
                return None
            table = table_from_bytes((folder / _TABLE).read_bytes(), item=_TABLE)
            quarantine = table_from_bytes((folder / _QUARANTINE).read_bytes(), item=_QUARANTINE).to_pylist()
        return ShardOutput(table, [QuarantinedRow(**row) for row in quarantine])

    def _sick(self, what: str) -> IncompleteRunError:
        return IncompleteRunError(
            f"{what}, so it is the machine that is not well, or its memory too small",
            item=f"{self.run} shard {self.shard.number}",
        )


def _main(folder: Path) -> int:
    """The child process: make the rows of the task in the folder, and write the outcome there."""
    # Ray's threads block signals, and their children inherit that: a signal that should kill one would wait for ever.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        make_task, run, shard, rows, threads = cloudpickle.loads((folder / _TASK).read_bytes())
        bind(threads)
        with ending_with_device():
            output = make_task()(run, shard, rows)
        (folder / _TABLE).write_bytes(table_to_bytes(output.table))
        quarantine = pa.Table.from_pylist([asdict(row) for row in output.quarantine], schema=QUARANTINE_SCHEMA)
        (folder / _QUARANTINE).write_bytes(table_to_bytes(quarantine))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
        message = f"{type(error).__name__}: {error}"
        (folder / _ERROR).write_text(message, encoding="utf-8", errors="backslashreplace")
        return _RAISED
    return 0


def _end_with_parent() -> None:
    """End this process when its parent, the worker, ends, which closes the pipe between them."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
