import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from stl_ray.runtime import concurrency
from stl_ray.runtime.concurrency import ComputeLock, ShardSlots, in_threads


def test_invariant_an_exclusive_shard_is_alone_and_comes_first():
    slots, held, seen = ShardSlots(), set(), []
    begun = threading.Barrier(3)

    def hold(name, exclusive, wait_for_others=False):
        with slots.hold(exclusive=exclusive):
            held.add(name)
            if wait_for_others:
                begun.wait(timeout=10)
            time.sleep(0.05)
            seen.append((name, frozenset(held)))
            held.remove(name)

    with ThreadPoolExecutor(6) as pool:
        first = [pool.submit(hold, name, False, True) for name in ("a", "b")]
        begun.wait(timeout=10)
        exclusive = [pool.submit(hold, name, True) for name in ("x", "y")]
        while slots._exclusive < 2:
            time.sleep(0.001)
        later = pool.submit(hold, "c", False)
        for future in (*first, *exclusive, later):
            future.result(timeout=10)
    assert seen[0][1] == {"a", "b"}
    assert dict(seen[2:4]) == {"x": {"x"}, "y": {"y"}}
    assert seen[4] == ("c", {"c"})


def test_invariant_one_cpu_does_one_thing_at_a_time(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    lock, together, at_work = ComputeLock(), [], set()
    monkeypatch.setattr(concurrency, "COMPUTE", lock)
    monkeypatch.setattr(concurrency, "_THREADS", concurrency._Threads())
    concurrency.bind(1)
    begun = threading.Barrier(3)

    def compute(name):
        at_work.add(name)
        time.sleep(0.002)
        together.append(set(at_work))
        at_work.remove(name)

    def shard(name):
        with lock.shard():
            begun.wait(timeout=10)
            for _ in range(3):
                in_threads(compute, [name] * 3)
                with lock.held():
                    compute(name)
                    in_threads(compute, [name])  # a thread that holds the lock acquires it again

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(shard, name) for name in ("a", "b", "c")]:
            future.result(timeout=10)
    assert len(together) == 45
    assert all(len(names) == 1 for names in together)


@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_invariant_threads_keep_the_order_and_every_item(monkeypatch, count):
    threads = torch.get_num_threads()
    monkeypatch.setattr(concurrency, "_THREADS", concurrency._Threads())
    concurrency.bind(3)
    made = in_threads(lambda item: (item, threading.current_thread().name), range(count))
    torch.set_num_threads(threads)
    assert [item for item, _ in made] == list(range(count))
    assert all(name.startswith("codec") for _, name in made)


_FAULTS = """
import resource, torch
from stl_ray.runtime.concurrency import bind
from stl_ray.tiling import in_tiles
torch.set_num_threads(1)
network, images = torch.nn.Conv2d(3, 64, 3, padding=1), torch.rand(16, 3, 64, 64)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with torch.no_grad():
        for _ in range(10):
            in_tiles(lambda tile: (network(tile).relu(),), images, size=16)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
before = faults()
bind(1)
faults()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library gives large buffers back so early")
def test_invariant_a_bound_process_keeps_its_buffers_from_tile_to_tile():
    # Two buffers of 16 MiB for each pass; in a process that was not bound, their pages are zeroed for every pass.
    before, after = map(int, subprocess.check_output([sys.executable, "-c", _FAULTS], text=True).split())
    assert before > 10 * 16 * 2**20 / 4096
    assert after < 0.1 * before
