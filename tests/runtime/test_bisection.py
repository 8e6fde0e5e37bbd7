"""The bisection of a shard, in real child processes that really die; no Ray.

The children import this module: what takes long to import is imported where it is used.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import pyarrow as pa
import pytest

from stl_ray.errors import IncompleteRunError
from stl_ray.runtime.bisection import bisect
from stl_ray.runtime.shard_task import ShardOutput, TableTask
from stl_ray.store import PlannedShard


def _isolated(doing, rows):
    """A shard of ids 0, 1, ... made in isolation, where `doing(rows)` happens to every process that makes some rows."""

    class Work(TableTask):
        def table(self, run, shard):
            return pa.table({"id": [str(row) for row in range(shard.rows)]})

        def make(self, run, shard, table):
            doing([int(name) for name in table["id"].to_pylist()])
            return ShardOutput(table)

    shard = PlannedShard(number=7, source={}, rows=rows, digest="")
    return bisect(Work, Work(), "stage/name", shard, threads=1)


def _ids(output):
    return output.table["id"].to_pylist(), [row.id for row in output.quarantine]


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _times(file) -> int:
    """How often this was asked before."""
    with file.open("a") as handle:
        handle.write(".")
    return file.stat().st_size - 1


def _fail_like_a_device():
    import torch

    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def test_invariant_a_row_on_which_the_device_fails_is_set_aside_and_its_mate_kept():
    def doing(rows):
        if 1 in rows:
            _fail_like_a_device()

    output = _isolated(doing, rows=2)
    assert _ids(output) == (["0"], ["1"])
    assert [row.reason for row in output.quarantine] == ["kills_worker"]


@pytest.mark.faults
def test_invariant_rows_that_die_while_the_machine_is_not_well_are_not_blamed(tmp_path):
    def doing(rows):
        if _times(tmp_path / "processes") < 3:
            _die()

    assert _ids(_isolated(doing, rows=3)) == (["0", "1", "2"], [])


def test_refuses_to_blame_a_row_after_which_the_control_dies_too(tmp_path):
    def doing(rows):
        if (tmp_path / "sick").exists() or 1 in rows:
            if rows == [1]:
                (tmp_path / "sick").touch()
            _die()

    with pytest.raises(
        IncompleteRunError, match=r"shard 7: an image kills its worker that did not before, so it is the"
    ):
        _isolated(doing, rows=2)


@pytest.mark.faults
def test_refuses_soon_where_nothing_survives(tmp_path):
    def doing(rows):
        _times(tmp_path / "processes")
        _die()

    with pytest.raises(
        IncompleteRunError, match=r"stage/name shard 7: every image kills its worker, so it is the machine"
    ):
        _isolated(doing, rows=4)
    assert (tmp_path / "processes").stat().st_size == 5  # all together, and each


def test_refuses_where_what_was_made_cannot_be_written_and_blames_no_image():
    def doing(rows):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    with pytest.raises(IncompleteRunError, match=r"stage/name shard 7: OSError: .*File too large"):
        _isolated(doing, rows=2)


def test_refuses_where_an_error_is_no_text_and_blames_no_image():
    def doing(rows):
        if 1 in rows:
            raise ValueError("猫 \udcff")

    with pytest.raises(IncompleteRunError, match=r"stage/name shard 7: ValueError: 猫 \\udcff$"):
        _isolated(doing, rows=2)


def test_invariant_the_child_ends_with_its_worker(tmp_path):
    def doing(rows):
        (tmp_path / "child.tmp").write_text(str(os.getpid()))
        (tmp_path / "child.tmp").rename(tmp_path / "child")
        time.sleep(300)

    worker = tmp_path / "worker.py"
    worker.write_text(
        "import sys, cloudpickle\nisolated, doing = cloudpickle.load(sys.stdin.buffer)\nisolated(doing, 2)\n"
    )
    with subprocess.Popen([sys.executable, str(worker)], stdin=subprocess.PIPE) as process:
        process.stdin.write(cloudpickle.dumps((_isolated, doing)))
        process.stdin.close()
        deadline = time.monotonic() + 60
        while not (tmp_path / "child").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.kill()
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
