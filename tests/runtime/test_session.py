import os
import subprocess
import sys

import pytest
from ray._private import worker as ray_worker

from stl_ray.runtime.session import _leave_out_warnings, _without_lines_of


def test_raylets_warnings_stay_away_and_their_errors_do_not(capsys, monkeypatch):
    monkeypatch.setattr(ray_worker, "print_to_stdstream", ray_worker.print_to_stdstream)  # put back in the end
    _leave_out_warnings()
    _leave_out_warnings()
    # As `listen_error_messages` of Ray passes on what a raylet publishes.
    for line in (
        "WARNING: 10 PYTHON worker processes have been started on node: 1",
        "Task MapWorker.submit failed. Error: The actor is dead because it was killed by `ray.kill`.",
        "Worker ran out of memory",
    ):
        ray_worker.print_to_stdstream({"lines": [line], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    said = "".join(capsys.readouterr())
    assert "worker processes" not in said and "ray.kill" not in said
    assert said.count("Worker ran out of memory") == 1


def test_one_line_of_stderr_stays_away_and_the_others_do_not_however_the_block_ends(capfd):
    with pytest.raises(KeyboardInterrupt), _without_lines_of(b"LEVEL"):
        os.write(2, b"Set LEVEL to 3\nAn error\n")  # as C++ does
        raise KeyboardInterrupt
    os.write(2, b"Later, LEVEL 3\n")
    assert capfd.readouterr().err == "An error\nLater, LEVEL 3\n"


LOCAL = """
import os, ray, signal, threading, time
from pathlib import Path
from stl_ray.config import RayConfig
from stl_ray.runtime.session import ray_session
from stl_ray.runtime.signals import interruptible

def watcher():
    return os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER")

def caught():
    (mask,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "SigCgt" in line]
    return int(mask, 16) >> signal.SIGTERM - 1 & 1

def terminate():
    deadline = time.monotonic() + 3
    while caught() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)

try:
    with interruptible():
        with ray_session(RayConfig()):
            print("said", ray.get(ray.remote(watcher).remote()), watcher())
            threading.Thread(target=terminate, daemon=True).start()
        time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.ray
@pytest.mark.faults
def test_a_local_ray_has_no_watcher_leaves_no_trace_and_takes_no_signal_as_it_closes():
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    result = subprocess.run([sys.executable, "-c", LOCAL], env=given, capture_output=True, text=True, timeout=120)
    assert result.stdout == "said 0 None\ninterrupted\n", (result.returncode, result.stderr)
