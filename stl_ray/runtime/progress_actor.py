"""A board on which workers post their progress, and from which the driver draws it."""

from collections import Counter
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stl_ray.errors import StlRayError
from stl_ray.runtime.progress import JobProgress


class Board:
    """Adds up posts until the driver takes them, and knows the shards in flight and the workers that are not ready."""

    def __init__(self) -> None:
        self._units = 0
        self._note = ""
        self._resumed: dict[str, int] = {}
        self._reached: dict[str, int] = {}
        self._failures: dict[str, StlRayError] = {}
        self._shards: set[tuple[str, int]] = set()
        self._starts: Counter[str] = Counter()

    def post(self, units: int, note: str) -> None:
        """Add finished units and replace the note."""
        self._units += units
        self._note = note

    def resume(self, name: str, units: int, note: str = "") -> None:
        """Post how far an item was when its work began or resumed; the first post is what an earlier session finished."""
        self._resumed.setdefault(name, units)
        self.reach(name, units, note)

    def reach(self, name: str, units: int, note: str) -> None:
        """Post how far an item is in all: further than before, or back where it resumes after a death."""
        self._reached[name] = units
        self._note = note

    def fail(self, name: str, error: StlRayError) -> None:
        """Post why an item cannot succeed however often it is tried; the first reason is kept."""
        self._failures.setdefault(name, error)

    def failure(self, name: str) -> StlRayError | None:
        """The reason why an item cannot succeed, None where none was posted."""
        return self._failures.get(name)

    def take(self) -> tuple[int, dict[str, int], dict[str, int], str]:
        """The units posted since the last call; how far each item was at first, and is in all; the latest note."""
        units, self._units = self._units, 0
        return units, dict(self._resumed), dict(self._reached), self._note

    def start(self, worker: str) -> int:
        """Note that a worker begins to load what it needs; returns how often it began since it was last ready."""
        self._starts[worker] += 1
        return self._starts[worker]

    def ready(self, worker: str) -> None:
        """Note that a worker has loaded what it needs."""
        del self._starts[worker]

    def begin(self, run: str, shard: int) -> None:
        """Note that a worker takes a shard, perhaps one whose worker died."""
        self._shards.add((run, shard))

    def end(self, run: str, shard: int) -> None:
        """Note that a worker is done with a shard, whether it succeeded or not."""
        self._shards.discard((run, shard))

    def in_flight(self) -> int:
        """The number of shards in flight."""
        return len(self._shards)


def make_board() -> Any:
    """The handle of a new board, which takes no CPU and lives where the driver does.

    Should it die with a node, it starts anew elsewhere and forgets; calls wait for it.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return (
        ray.remote(num_cpus=0)(Board).options(scheduling_strategy=here, max_restarts=-1, max_task_retries=-1).remote()
    )


class Posts:
    """The posts to a board, for the driver that draws them.

    Args:
        board: handle of `make_board`.
    """

    def __init__(self, board: Any) -> None:
        self._board = board
        self._known: dict[str, int] = {}

    def draw(self, progress: JobProgress) -> None:
        """Count what was posted since the last call."""
        try:
            taken = ray.get(self._board.take.remote())
        except RayActorError:  # its node is gone; the work goes on
            return
        self.count(progress, *taken)

    def count(
        self, progress: JobProgress, units: int, resumed: dict[str, int], reached: dict[str, int], note: str
    ) -> None:
        """Count the result of `Board.take`, each unit once."""
        # A board that died forgets; what is known of a name stays.
        for name in resumed.keys() - self._known.keys():
            self._known[name] = resumed[name]
            progress.resume(resumed[name])
        units += sum(reached[name] - self._known.get(name, 0) for name in reached)
        self._known |= reached
        progress.advance(units, note=note)
