"""The actor that makes shards: it takes one, makes it, publishes it, and answers with a summary.

Ray Data hands it several at once (`concurrency.SHARDS_IN_HAND`), of which one computes while the others are read and published.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ray

from stl_ray import __version__
from stl_ray.errors import ConfigError, IncompleteRunError
from stl_ray.runtime.bisection import bisect
from stl_ray.runtime.concurrency import COMPUTE, SLOTS, bind, bind_thread, ending_with_device, loaded_torch
from stl_ray.runtime.shard_task import ShardOutput, ShardTask
from stl_ray.store import PlannedShard, Receipt, Run
from stl_ray.store.plan import read_shard

DEATHS_BEFORE_BISECTION = 2
"""Deaths of its worker, under one driver and on nodes that live on, after which a shard is bisected to the row at fault.

At the first death the worker had other shards in hand too, at the second this one alone."""

DEATHS_BEFORE_GIVING_UP = 6
"""Deaths of its worker, in bisections too, after which a shard is given up, and named."""

STARTS_BEFORE_GIVING_UP = 4
"""Starts of an actor that dies while it loads what it needs; Ray by itself would restart it for ever."""


@dataclass(frozen=True)
class ShardSummary:
    """The result of a shard for the driver."""

    run: str
    shard: int
    rows: int = 0
    quarantined: int = 0
    reasons: str = "{}"  # JSON
    error: str = ""
    worker: str = ""
    busy: float = 0.0  # of the worker so far, see concurrency.Usage
    span: float = 0.0


class ShardActor:
    """Takes shards until there are none left.

    Args:
        runs: by their names.
        make_task: makes the task; picklable.
        threads: CPUs of the actor.
        driver: a name for the driver, another in each session.
        version: of the driver's package.
        board: handle of `make_board`, on which it posts that it is ready, and which shards it begins and ends.

    Raises:
        ConfigError: if the node has another version of the package.
        IncompleteRunError: if it died again and again before it was ready.
    """

    def __init__(
        self,
        runs: Mapping[str, Run],
        make_task: Callable[[], ShardTask],
        threads: int,
        driver: str,
        version: str,
        board: Any,
    ) -> None:
        if version != __version__:
            raise ConfigError(
                "a node has another version of stl-ray", item=socket.gethostname(), expected=version, got=__version__
            )
        bind(threads)
        self._runs, self._make_task, self._threads, self._board = runs, make_task, threads, board
        context = ray.get_runtime_context()
        self._me = {
            "driver": driver,
            "node": context.get_node_id(),
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
        }
        actor = context.get_actor_id()
        if ray.get(board.start.remote(actor)) > STARTS_BEFORE_GIVING_UP:
            raise IncompleteRunError(
                f"a worker died {STARTS_BEFORE_GIVING_UP} times before it was ready; see the Ray logs of this session",
                item=self._me["host"],
            )
        self._work = make_task()
        board.ready.remote(actor)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make and publish one shard; returns a row of `ShardSummary`."""
        bind_thread()
        name, number = row["run"], row["shard"]
        self._board.begin.remote(name, number)
        try:
            summary = self._bring_in(name, number)
        except Exception as error:  # noqa: BLE001
            # Any error is this shard's: the others go on, and the job ends with a failure that names it.
            text = f"{type(error).__name__}: {error} (on {self._me['host']})"
            summary = ShardSummary(name, number, error=text)
        finally:
            self._board.end.remote(name, number)
        usage = COMPUTE.usage()
        worker = f"{self._me['host']}:{self._me['pid']}"
        return {**asdict(summary), "worker": worker, "busy": usage.busy, "span": usage.span}

    def _bring_in(self, name: str, number: int) -> ShardSummary:
        run = self._runs[name]
        earlier = run.attempts(number, self._me["driver"])
        deaths = _deaths(earlier)
        # A shard is charged at most once with a death that another one caused: after that it is alone in the process.
        with SLOTS.hold(exclusive=deaths > 0), COMPUTE.shard(), ending_with_device():
            # If only the answer was lost, with its worker or node, the shard is done.
            done = bool(earlier) and run.has(number)
            return _summary(name, run.receipt(number) if done else self._publish(run, name, number, deaths))

    def _publish(self, run: Run, name: str, number: int, deaths: int) -> Receipt:
        start = time.monotonic()
        run.attempt(number, self._me)
        shard = read_shard(run.storage, number)
        output = self._make(name, shard, deaths)
        return run.publish(
            shard,
            output.table.combine_chunks(),
            output.quarantine,
            seconds=time.monotonic() - start,
            attempt=deaths + 1,
            environment=self._environment(),
        )

    def _environment(self) -> dict[str, str]:
        torch = loaded_torch()
        return {"host": self._me["host"], **({} if torch is None else {"torch": torch.__version__})}

    def _make(self, name: str, shard: PlannedShard, deaths: int) -> ShardOutput:
        if deaths >= DEATHS_BEFORE_GIVING_UP:
            raise IncompleteRunError(f"its worker died {deaths} times; see the Ray logs of this session")
        if deaths >= DEATHS_BEFORE_BISECTION:
            if (torch := loaded_torch()) is not None:
                torch.cuda.empty_cache()  # the processes of the bisection need the memory that it caches
            return bisect(self._make_task, self._work, name, shard, self._threads)
        return self._work(name, shard)


def _deaths(earlier: Sequence[Mapping[str, str]]) -> int:
    """The number of times that a shard took its worker down; a worker that went with its node died of that."""
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]} if earlier else set()  # type: ignore[no-untyped-call]
    return sum(record["node"] in alive for record in earlier)


def _summary(name: str, receipt: Receipt) -> ShardSummary:
    return ShardSummary(name, receipt.shard, receipt.rows_in, receipt.quarantined, json.dumps(receipt.reasons))
