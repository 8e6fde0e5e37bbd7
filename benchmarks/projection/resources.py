"""Peak memory, and what a second thread is worth; in processes of their own.

Children come from a fork server that has imported everything and computed nothing: what they allocate is their own.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.memory import Growth
from benchmarks.common.processes import fresh_processes
from benchmarks.projection.contestants import ours, peer
from stl_ray.csc import Dictionary, reconstruct

PEER_ITERATIONS = 5
"""SPORCO's memory is at its peak in its first iterations."""

FURTHER = 4
"""Images that the second measurement of memory solves in one batch with the first."""


@dataclass(frozen=True)
class Memory:
    """Growth of the resident set at its highest, bytes; C++ and FFT buffers included.

    Attributes:
        first: for one image, with what is kept for the next of its size (spectra, plans).
        further: for every further image of a batch; None for SPORCO, which takes one image at a time.
    """

    first: float
    further: float | None


def measure_memory(method: str, tier: str, images: Tensor, dictionary: Dictionary, lmbda: float) -> Memory:
    """Of one contestant, in a fresh process."""
    first, further = _in_child(_peak, (method, tier, images[: 1 + FURTHER].clone(), dictionary, lmbda))
    return Memory(first, further)


def _peak(connection: Connection, method: str, tier: str, images: Tensor, dictionary: Dictionary, lmbda: float) -> None:
    torch.set_num_threads(1)
    contestant = (
        peer(dictionary, lmbda, PEER_ITERATIONS) if method == "SPORCO" else ours(dictionary, lmbda, method, tier)
    )
    side = 2 * dictionary.side
    contestant.project(images[0, :, :side, :side].contiguous())  # libraries that load themselves at first use
    grown = Growth()
    contestant.project(images[0])
    first = grown.bytes()
    further = None
    if method != "SPORCO" and len(images) > 1:
        reconstruct(images, dictionary, lmbda, method=method, accuracy=tier)
        further = max(0.0, grown.bytes() - first) / (len(images) - 1)
    connection.send((first, further))


@dataclass(frozen=True)
class Parallel:
    """Images per second of a batch.

    Attributes:
        one_thread: in one process.
        two_threads: in the same process.
        one_process: in a bare process on one thread.
        two_processes: in two of them at the same time, together: the most that the machine gives.
    """

    one_thread: float
    two_threads: float
    one_process: float
    two_processes: float


def measure_parallel(
    images: Tensor, dictionary: Dictionary, lmbda: float, method: str, tier: str, seconds: float, rounds: int = 3
) -> Parallel:
    """Take turns between the four for `rounds` rounds of `seconds` each; medians."""

    def project() -> None:
        reconstruct(images, dictionary, lmbda, method=method, accuracy=tier)

    context, arguments = fresh_processes(__name__), (images, dictionary, lmbda, method, tier)
    pipes = [context.Pipe() for _ in range(2)]
    children = [context.Process(target=_serve, args=(theirs, *arguments), daemon=True) for _, theirs in pipes]
    for child in children:
        child.start()
    ends = [end for end, _ in pipes]
    for end in ends:
        end.recv()
    found: list[tuple[float, float, float, float]] = []
    for _ in range(rounds):
        threads = []
        for count in (1, 2):
            torch.set_num_threads(count)
            threads.append(_rate(project, len(images), seconds))
        torch.set_num_threads(1)
        found.append((threads[0], threads[1], _ask(ends[:1], seconds), _ask(ends, seconds)))
    for end, child in zip(ends, children, strict=True):
        end.send(None)
        child.join()
    return Parallel(*(median(column) for column in zip(*found, strict=True)))


def _ask(ends: list[Connection], seconds: float) -> float:
    for end in ends:
        end.send(seconds)
    return float(sum(end.recv() for end in ends))


def _serve(
    connection: Connection, images: Tensor, dictionary: Dictionary, lmbda: float, method: str, tier: str
) -> None:
    torch.set_num_threads(1)

    def project() -> None:
        reconstruct(images, dictionary, lmbda, method=method, accuracy=tier)

    project()
    connection.send(None)
    while (seconds := connection.recv()) is not None:
        connection.send(_rate(project, len(images), seconds))


def _rate(project: Callable[[], None], images: int, seconds: float) -> float:
    """Images per second over at least `seconds`."""
    runs, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not runs:
        project()
        runs += 1
    return runs * images / elapsed


def _in_child(function: Callable[..., None], arguments: tuple[Any, ...]) -> Any:
    """What `function(connection, *arguments)` sends, from a process of its own."""
    context = fresh_processes(__name__)
    ours, theirs = context.Pipe()
    child = context.Process(target=function, args=(theirs, *arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        child.join()
