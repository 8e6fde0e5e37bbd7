"""The compute lock and the shard slots of an actor that holds several shards, and the number of its threads.

While one shard is solved, others are read, decoded, encoded and published, so that the device waits for none of it. One
shard computes at a time, the earliest taken first: side by side they would all be late, and on a GPU need its memory
twice. An actor with one CPU decodes and encodes under the lock too: two threads on a core take longer
than one after the other, since each finds the caches full of the other's images. A shard that may kill the process is held
exclusively.

Only a task that computes with torch has it loaded: a worker that decodes starts sooner without it, in less memory.
"""

import heapq
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")

SHARDS_IN_HAND = 3
"""Shards that an actor has in hand: one is read, one computes, one is published."""

# Most images that a thread takes at a time, and the fewest times that each thread takes some.
_HANDFUL, _HANDFULS = 8, 4


@dataclass
class Usage:
    """The use of the compute lock.

    Attributes:
        busy: seconds for which it was held.
        span: seconds from its first acquisition to its last release.
    """

    busy: float = 0.0
    span: float = 0.0


class ComputeLock:
    """A reentrant lock that the waiting thread of the earliest shard acquires next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._waiting: list[int] = []
        self._orders = count(1)
        self._mine = threading.local()
        self._busy, self._first, self._last = 0.0, 0.0, 0.0

    @contextmanager
    def shard(self) -> Iterator[None]:
        """Order what this thread computes in the block as one shard's, after the shards taken before it."""
        self._mine.order = next(self._orders)
        try:
            yield
        finally:
            del self._mine.order

    @contextmanager
    def held(self) -> Iterator[None]:
        """Acquire the lock, unless this thread holds it, and compute in the block."""
        if getattr(self._mine, "held", False):
            yield
            return
        order = getattr(self._mine, "order", 0)
        with self._changed:
            heapq.heappush(self._waiting, order)
            self._changed.wait_for(lambda: not self._taken and self._waiting[0] == order)
            heapq.heappop(self._waiting)
            self._taken = True
            start = time.monotonic()
            self._first = self._first or start
        self._mine.held = True
        try:
            yield
        finally:
            self._mine.held = False
            with self._changed:
                self._last = time.monotonic()
                self._busy += self._last - start
                self._taken = False
                self._changed.notify_all()

    def usage(self) -> Usage:
        """The use of the lock so far."""
        with self._changed:
            return Usage(self._busy, self._last - self._first)


class ShardSlots:
    """Slots for several shards or one exclusive shard; exclusive requests have priority."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shards, self._exclusive = 0, 0

    @contextmanager
    def hold(self, *, exclusive: bool) -> Iterator[None]:
        """Wait for a slot and hold it in the block."""
        with self._changed:
            self._exclusive += exclusive
            self._changed.wait_for(lambda: not (self._shards if exclusive else self._exclusive))
            self._shards += 1
        try:
            yield
        finally:
            with self._changed:
                self._shards -= 1
                self._exclusive -= exclusive
                self._changed.notify_all()


class _Threads:
    """The threads of the process for decoding and encoding, as many as it has CPUs."""

    def __init__(self) -> None:
        self.count = 1
        self._pool: ThreadPoolExecutor | None = None

    def set(self, count: int, *, gpu: bool) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="codec") if gpu or count > 1 else None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        listed = list(items)
        if self._pool is None:
            with COMPUTE.held():
                return [function(item) for item in listed]
        # Handing over a small image takes a tenth of the time of decoding it.
        size = max(1, min(_HANDFUL, len(listed) // (_HANDFULS * self.count)))
        handfuls = [listed[start : start + size] for start in range(0, len(listed), size)]
        mapped = self._pool.map(lambda handful: [function(item) for item in handful], handfuls)
        return [result for results in mapped for result in results]


COMPUTE = ComputeLock()
"""The process's compute lock: its shards share its cores or its GPU."""

SLOTS = ShardSlots()
"""The process's slots: a shard that kills the process takes the others down."""

_THREADS = _Threads()


@contextmanager
def ending_with_device() -> Iterator[None]:
    """End the process where its GPU fails in the block: nothing could use it afterwards."""
    try:
        yield
    except Exception as error:
        torch = loaded_torch()
        if torch is None or not isinstance(error, torch.AcceleratorError):
            raise
        traceback.print_exc()
        os.kill(os.getpid(), signal.SIGKILL)


def bind(threads: int) -> None:
    """Set this process up for images: `threads` for networks and solver, as many for decoding and encoding; keep freed memory."""
    torch = loaded_torch()
    _THREADS.set(threads, gpu=torch is not None and torch.cuda.is_available())
    bind_thread()
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have the C library keep memory that is freed, up to 64 MiB, for the next tile, which wants buffers of the same sizes.

    glibc gives large buffers back to the system at once, and to have their pages zeroed again costs a network's passes a
    fifth of their time. Once one was freed, it keeps buffers up to the size of that one, 32 MiB at most (mallopt(3),
    dynamic mmap threshold). Elsewhere this does nothing.
    """
    np.empty(2**25 - 2**14, np.uint8)


def bind_thread() -> None:
    """Set the number of threads in a thread that Ray started, too: OpenMP counts by thread."""
    torch = loaded_torch()
    if torch is not None:
        torch.set_num_threads(_THREADS.count)


def loaded_torch() -> Any:
    """The module torch where this process has loaded it, else None."""
    return sys.modules.get("torch")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The results of a function on items, in order, by as many threads as the process may use."""
    return _THREADS.map(function, items)
