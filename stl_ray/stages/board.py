"""A board on which workers post what they have done, and from which the driver draws its progress."""

import time
from collections.abc import Callable
from typing import Any

import ray

from stl_ray.stages.progress import JobProgress

_POLL_S = 0.5


class Board:
    """Adds up posts until the driver takes them."""

    def __init__(self) -> None:
        self._units = 0
        self._note = ""

    def post(self, units: int, note: str) -> None:
        """Add finished units and replace the note."""
        self._units += units
        self._note = note

    def take(self) -> tuple[int, str]:
        """The units posted since the last call, and the latest note."""
        units, self._units = self._units, 0
        return units, self._note


def make_board() -> Any:
    """The handle of a new board, which takes no CPU."""
    return ray.remote(num_cpus=0)(Board).remote()


def watch(board: Any, progress: JobProgress, finished: Callable[[], bool]) -> None:
    """Draw what is posted until `finished` says so."""
    while True:
        over = finished()
        units, note = ray.get(board.take.remote())
        progress.advance(units, note=note)
        if over:
            return
        time.sleep(_POLL_S)
