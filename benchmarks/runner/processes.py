"""What a run costs the machine: busy cores, and CPU seconds of this process and of all that it started. Linux only."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.runner.rates import Done, Timeline, cores_used, steady_window

_EVERY_S = 1.0


class Watch:
    """Looks at the processes every second, while its block runs."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, dict[str, float]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._ticks = _ticks()
        self._thread.start()
        self._began = time.time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = time.time()
        self._over.set()
        self._thread.join()
        self._cores = _busy(self._ticks, _ticks())

    def timeline(self, done: Sequence[Done], in_hand: int) -> Timeline:
        """The block's, when these pieces were done in it.

        Raises:
            ValueError: as `rates.steady_rate`.
        """
        began, ended = steady_window(done, in_hand)
        inside = [sample for sample in self._samples if began <= sample[0] <= ended]
        own = others = float("nan")
        if len(inside) > 1:
            (first, before), (last, after) = inside[0], inside[-1]
            own, others = cores_used(used(before, after), last - first, done)
        return Timeline(done, self._began, self._ended, in_hand, self._cores, own, others)

    def _look(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._samples.append((time.time(), _of_tree(str(os.getpid()))))


def used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was used between two looks by those that were there at both."""
    return {process: seconds - before[process] for process, seconds in after.items() if process in before}


def descends(process: str, root: str, parents: Mapping[str, str]) -> bool:
    """Whether a process is the root or a child of its children."""
    while process != root:
        if process not in parents:
            return False
        process = parents[process]
    return True


def _of_tree(root: str) -> dict[str, float]:
    """CPU seconds so far of a process and of all that it started."""
    parents, seconds = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parents[file.parent.name] = fields[1]
        seconds[file.parent.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return {process: took for process, took in seconds.items() if descends(process, root, parents)}


def _ticks() -> tuple[int, int]:
    """Ticks of all cores together since the machine started: busy ones, and all."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0, 0
    return sum(fields) - fields[3] - fields[4], sum(fields)  # waiting for a disk is idle


def _busy(before: tuple[int, int], after: tuple[int, int]) -> float:
    everything = after[1] - before[1]
    return (after[0] - before[0]) / everything * (os.cpu_count() or 1) if everything else float("nan")
