"""Long pieces of work side by side, each driven by a Ray task; the driver only waits, in its one thread.

A thread of the driver that drives work would outlive an interrupt: while Ray is shut down under it, it starts another Ray,
joins the cluster again, or has Ray end the process without a word.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stl_ray.errors import StlRayError, TrainingError
from stl_ray.runtime.progress import JobProgress
from stl_ray.runtime.progress_actor import Posts

_POLL_S = 0.5


def run_side_by_side(works: Sequence[Callable[[], None]], at_once: int, board: Any, progress: JobProgress) -> None:
    """Run every piece of work and draw what it posts to the board.

    Args:
        works: picklable; each takes no CPU of its own and has its workers do the computing.
        at_once: pieces that run at the same time.
        board: where the works post their progress.
        progress: where it is drawn.

    Raises:
        StlRayError: the error of the first of the failed pieces, when the others are finished.
        TrainingError: if the process of a piece of work died.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Not retried: the placement group of the first try would still hold the workers' CPUs.
    task = ray.remote(num_cpus=0, max_retries=0)(_drive).options(scheduling_strategy=here)
    started: list[Any] = []
    running: list[Any] = []
    posts = Posts(board)
    try:
        while running or len(started) < len(works):
            while len(running) < at_once and len(started) < len(works):
                started.append(task.remote(works[len(started)]))
                running.append(started[-1])
            _, running = ray.wait(running, timeout=_POLL_S)
            posts.draw(progress)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
    for reference in started:
        _require(reference)


def _drive(work: Callable[[], None]) -> None:
    work()


def _require(reference: Any) -> None:
    try:
        ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, StlRayError):
            raise error.cause from None
        raise
    except RayError as error:
        raise TrainingError(f"the process that drove a training died ({error})") from error
