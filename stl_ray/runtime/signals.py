"""Signals of a job's driver: the first Ctrl-C or SIGTERM interrupts the job in good order, the second one ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""The exit code of an interrupted command, as a shell gives it."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_handler: list[Any] = []


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first signal within the block into a KeyboardInterrupt; the second one ends the process.

    Handlers belong to the main thread: in any other the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.getsignal(number) for number in _SIGNALS}
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            os._exit(INTERRUPTED)  # a local Ray dies with its driver
        raise KeyboardInterrupt

    _handler.append(handle)
    keep_handlers()
    try:
        yield
    finally:
        _handler.remove(handle)
        for number, handler in earlier.items():
            signal.signal(number, handler)


def keep_handlers() -> None:
    """Put the handlers of the innermost block back: Ray replaces that of SIGTERM when it connects."""
    if _handler and threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, _handler[-1])
