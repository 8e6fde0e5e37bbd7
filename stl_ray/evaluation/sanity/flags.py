"""What a check says: that it passed, that it is raised, or that there was nothing to check."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    RAISED = "raised"  # shown on the row, and voids its claim
    NOT_RUN = "not_run"  # does not apply to this defense, or had no images to be run on


@dataclass(frozen=True)
class Flag:
    """The outcome of one check on one defense."""

    check: str  # H1 to H15
    title: str
    state: State
    finding: str  # what was found, in figures
    value: float | None = None  # what was compared with the limit
    limit: float | None = None


def flag(check: str, title: str, finding: str, value: float, limit: float) -> Flag:
    """Raised where the value is over the limit, or is no number."""
    state = State.PASSED if value <= limit else State.RAISED
    return Flag(check, title, state, finding, float(value), float(limit))


def not_run(check: str, title: str, reason: str) -> Flag:
    """A check that had nothing to check."""
    return Flag(check, title, State.NOT_RUN, reason)
