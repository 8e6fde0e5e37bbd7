"""Learners against the clock: CPU time, and what the dictionary is worth at checkpoints outside of it."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.common.heldout import HoldoutScore, judge
from benchmarks.common.progress import Progress
from benchmarks.learning.learners import METHODS, Learner, configuration, ours

GROWTH = 1.1
"""A checkpoint is the first step at which the CPU time is this many times that of the last."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a learner stands.

    Attributes:
        iteration: steps taken.
        seconds: CPU time so far, of the process, less what judging took.
        judgement: of the dictionary, on the held-out images.
    """

    iteration: int
    seconds: float
    judgement: HoldoutScore


@dataclass(frozen=True)
class Run:
    """What a learner did.

    Attributes:
        learner: whose run it was.
        checkpoints: in order; the last is where it ended.
        ending: why, in words.
        busy: CPU seconds over wall seconds; below 1 where something else ran on the core.
    """

    learner: Learner
    checkpoints: list[Checkpoint]
    ending: str
    busy: float

    @property
    def final(self) -> Checkpoint:
        """The last checkpoint."""
        return self.checkpoints[-1]

    def first(self, objective: float) -> float | None:
        """CPU seconds at the first checkpoint whose held-out objective is not above this; None if there is none."""
        return next((c.seconds for c in self.checkpoints if c.judgement.objective <= objective), None)

    def after(self, share: float) -> Checkpoint:
        """The last checkpoint within this share of the run's CPU time, or the first of all."""
        within = [c for c in self.checkpoints if c.seconds <= share * self.final.seconds]
        return within[-1] if within else self.checkpoints[0]


def race(learner: Learner, heldout: Tensor, cap: float | None, progress: Progress) -> Run:
    """Let a learner run to its own end, or over `cap` CPU seconds; `heldout` are high bands (n, 3, H, W)."""
    next(learner.begin())  # plans, libraries
    steps, checkpoints = learner.begin(), list[Checkpoint]()
    iteration, seconds, wall, judged, ending = 0, 0.0, 0.0, 0.0, "all iterations"
    dictionary = None
    while True:
        start, cpu = time.perf_counter(), time.process_time()
        step = next(steps, None)
        wall, seconds = wall + time.perf_counter() - start, seconds + time.process_time() - cpu
        if step is None:
            break
        iteration, (dictionary, converged) = iteration + 1, step
        ending = "converged" if converged else ending
        if seconds >= GROWTH * judged:
            judged = seconds
            checkpoints.append(Checkpoint(iteration, seconds, judge(dictionary, heldout)))
            objective = checkpoints[-1].judgement.objective
            progress.tell(f"{learner.name}: iteration {iteration}, {seconds:.1f} CPU s, objective {objective:.4g}")
        if cap is not None and seconds > cap:
            ending = "capped"
            break
    if dictionary is None:
        raise SystemExit(f"{learner.name} made no step")
    if checkpoints[-1].iteration < iteration:
        checkpoints.append(Checkpoint(iteration, seconds, judge(dictionary, heldout)))
    return Run(learner, checkpoints, ending, seconds / wall)


def measure_threads(images: Tensor, holdout: Tensor, block: int, iterations: int) -> dict[str, tuple[float, float]]:
    """Wall seconds of the first iterations of each of our methods on (one thread, two threads), the faster of two."""
    found = {}
    for method in METHODS:
        few = {"iterations": iterations, "tolerance": 0.0}
        config = configuration(method, images, holdout, block).model_copy(update=few)
        learner, times = ours(images, holdout, config), {1: float("inf"), 2: float("inf")}
        for threads in (1, 2, 2, 1):
            torch.set_num_threads(threads)
            start = time.perf_counter()
            for _ in learner.begin():
                pass
            times[threads] = min(times[threads], time.perf_counter() - start)
        torch.set_num_threads(1)
        found[learner.name] = (times[1], times[2])
    return found
