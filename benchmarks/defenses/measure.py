"""Seconds of one core per image."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from threadpoolctl import threadpool_limits

TURN_SECONDS = 0.1


@dataclass(frozen=True)
class Contestant:
    """A way to do the same thing.

    Attributes:
        name: as the page shows it.
        images: that one call takes care of; of a part of an image, its share.
        run: the call.
        quality: of what comes out, in words.
        original: name of the one that it is compared with.
    """

    name: str
    images: float
    run: Callable[[], object]
    quality: str
    original: str | None = None


@dataclass(frozen=True)
class Timing:
    """What was measured of a contestant: CPU seconds per image, the median over the rounds."""

    contestant: Contestant
    seconds: float


def take_turns(contestants: Sequence[Contestant], rounds: int) -> list[Timing]:
    """Time them in turns: all of them once, then again, as many times as there are rounds, after one that does not count.

    CPU time of the process, which other work on the machine stretches less than it does wall time. NumPy's BLAS has one
    thread: of several, those that wait would count.
    """
    taken: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    with threadpool_limits(1):
        for contestant in [*contestants] * (rounds + 1):
            start, calls = time.process_time(), 0
            while (spent := time.process_time() - start) < TURN_SECONDS:
                contestant.run()
                calls += 1
            taken[contestant.name].append(spent / calls / contestant.images)
    return [Timing(contestant, median(taken[contestant.name][1:])) for contestant in contestants]
