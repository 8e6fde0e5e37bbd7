"""Seconds, memory and requests of what a process does, phase by phase."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from botocore.httpsession import URLLib3Session

from benchmarks.common.memory import Growth
from benchmarks.common.processes import fresh_processes

Result = TypeVar("Result")


@dataclass(frozen=True)
class Phase:
    """What something took.

    Attributes:
        name: what was done.
        seconds: wall time.
        peak: bytes of resident memory at its highest, above what it was before.
        kept: bytes of it that were still there afterwards.
        requests: to an S3 server.
    """

    name: str
    seconds: float
    peak: float
    kept: float
    requests: int


class Phases(list[Phase]):
    """The phases of this process, in order."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What is done in the block."""
        grown, start, before = Growth(), time.perf_counter(), _requests()
        yield
        seconds = time.perf_counter() - start
        self.append(Phase(name, seconds, grown.bytes(), grown.kept(), _requests() - before))

    def summed(self, name: str) -> list[Phase]:
        """One for all of them together, and they after it."""
        kept, peak = 0.0, 0.0
        for phase in self:
            peak = max(peak, kept + phase.peak)
            kept += phase.kept
        seconds, requests = sum(phase.seconds for phase in self), sum(phase.requests for phase in self)
        return [Phase(name, seconds, peak, kept, requests), *self]


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function returns, called in a process of its own."""
    with processes(1) as pool:
        return pool.submit(function, *arguments).result()


def processes(count: int) -> ProcessPoolExecutor:
    """Processes from a fork server that has imported everything and computed nothing, with the environment of this one."""
    context = fresh_processes("benchmarks.scale.driver", "benchmarks.scale.sources")
    return ProcessPoolExecutor(count, context, _take_environment, (dict(os.environ),))


def _take_environment(environment: dict[str, str]) -> None:
    os.environ.update(environment)


class _Counted:
    """Counts the requests that botocore sends."""

    sent = 0
    send = URLLib3Session.send

    @staticmethod
    def counting(session: URLLib3Session, request: Any) -> Any:
        _Counted.sent += 1
        return _Counted.send(session, request)


def _requests() -> int:
    """Requests since the first call."""
    URLLib3Session.send = _Counted.counting
    return _Counted.sent
