"""Several requests at a time, their answers in order: a disk answers at once, an object store after a while."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LISTINGS = 16
"""Folders, or headers of files, that are read at once while a source is planned."""


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Iterator[Result]:
    """The results of a function on items, in the order of the items.

    Args:
        function: called by several threads at once; its exceptions are raised in place of its results.
        items: taken as they are needed.
        threads: calls at once.
        ahead: most results, finished or under way, that wait to be taken.
    """
    remaining = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
    waiting: deque[Future[Result]] = deque()
    try:
        waiting.extend(pool.submit(function, item) for item in islice(remaining, ahead))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
