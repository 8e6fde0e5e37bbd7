"""One driver at a time, on disks and on a real S3 server."""

import subprocess
import sys
import time

import pytest

from stl_ray.errors import RunBusyError
from stl_ray.store import Storage, lease
from stl_ray.store.lease import held

_HOLDER = """
import sys, time
from stl_ray.store import Storage
from stl_ray.store.lease import held
with held([Storage.open(root) for root in sys.argv[1:]]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder():
    """Starts a process that holds the leases of folders; killed in the end."""
    started = []

    def start(*roots: str) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", _HOLDER, *roots], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_refuses_a_second_driver_on_a_disk_and_says_who_the_first_is(tmp_path, holder):
    process = holder(str(tmp_path / "run"))
    with (
        pytest.raises(RunBusyError, match=rf"run: another driver is at work here: process {process.pid} on "),
        held([Storage.open(str(tmp_path / "run"))]),
    ):
        pass
    process.kill()
    process.wait()
    with held([Storage.open(str(tmp_path / "run"))]) as mine:
        mine.check()


def test_invariant_one_refusal_gives_the_others_back(tmp_path, holder):
    holder(str(tmp_path / "b"))
    both = [Storage.open(str(tmp_path / name)) for name in ("a", "b")]
    with pytest.raises(RunBusyError), held(both):
        pass
    with held(both[:1]):
        pass


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.4)
    monkeypatch.setattr(lease, "STALE_S", 2.0)


@pytest.mark.s3
def test_refuses_a_second_driver_on_s3_while_the_first_lives(s3, quick, capsys):
    storage = Storage.open(f"{s3}/run")
    with held([storage]) as first:
        with pytest.raises(RunBusyError, match="another driver is at work here"), held([storage]):
            pass
        assert "alive? Watching it" in capsys.readouterr().err
        first.check()
    assert storage.names() == []
    with held([storage]):
        pass


@pytest.mark.s3
def test_invariant_the_leases_of_a_killed_driver_on_s3_are_taken_over(s3, holder, monkeypatch):
    monkeypatch.setattr(lease, "STALE_S", 5.0)
    roots = [f"{s3}/{name}" for name in ("a", "b", "c")]
    process = holder(*roots)
    process.kill()
    process.wait()
    with held([Storage.open(root) for root in roots]) as mine:
        mine.check()


@pytest.mark.s3
def test_invariant_a_beat_whose_answer_was_lost_costs_nothing(s3, quick):
    storage = Storage.open(f"{s3}/run")
    with held([storage]) as mine:
        for beat in range(5):  # as if it were the holder's own, of which it never heard that it arrived
            storage.write_json("lease.json", {**storage.read_json("lease.json"), "beat": 100 + beat})
            time.sleep(2 * lease.BEAT_S)
            mine.check()
    assert storage.names() == []


@pytest.mark.s3
def test_refuses_to_go_on_with_a_lease_that_another_has_taken_over(s3, quick):
    storage = Storage.open(f"{s3}/run")
    with held([storage]) as mine:
        storage.write("lease.json", b'{"holder": "another"}')
        deadline = time.monotonic() + 10
        with pytest.raises(RunBusyError, match="another driver has taken this run over"):
            while time.monotonic() < deadline:
                mine.check()
                time.sleep(0.1)
    assert storage.read("lease.json") == b'{"holder": "another"}'
