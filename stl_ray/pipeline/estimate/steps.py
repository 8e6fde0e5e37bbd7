"""The estimate of a job: its steps, and what each would take."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StepEstimate:
    """What one step of a job would take.

    Attributes:
        name: of the step, or the folder that it writes, relative to the root.
        unit: what is counted.
        total: units in all.
        left: units that are not done yet.
        bytes: of what the step will have written in the end.
        seconds: of one worker, for the units that are left.
        workers: that would share them.
        shards: units of work that are planned; None where the step has none.
        at_most: whether `seconds` is a bound, from work that was counted, and not a sample's share.
        detail: what was counted, in words.
    """

    name: str
    unit: str
    total: int
    left: int
    bytes: float
    seconds: float
    workers: int
    shards: int | None = None
    at_most: bool = False
    detail: str = ""


@dataclass(frozen=True)
class JobEstimate:
    """What a job would take; its steps run one after the other."""

    steps: Sequence[StepEstimate]

    @property
    def seconds(self) -> float:
        """Seconds of the whole job, if all workers of a step had work to its end."""
        return sum(step.seconds / step.workers for step in self.steps)

    @property
    def bytes(self) -> float:
        """Bytes that the job will have written."""
        return sum(step.bytes for step in self.steps)
