"""Flags: the name, title and outcome of a check."""

from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """The checks, by what they require."""

    WITHIN_BUDGET = "H1"
    MONOTONE_SWEEP = "H2"
    UNBOUNDED_ATTACK = "H3"
    ORDER_OF_STRENGTH = "H4"
    GRADIENTS_HELP = "H5"
    CONVERGED = "H6"
    RESTARTS = "H7"
    GRADIENT = "H8"
    SILENT_SUCCESS = "H9"
    RANDOMNESS = "H10"
    LOGITS = "H11"
    ABLATION = "H12"
    OTHER_LOSS = "H13"
    STATISTICS = "H14"
    PROVENANCE = "H15"


TITLES = {
    Check.WITHIN_BUDGET: "every image is within its budget",
    Check.MONOTONE_SWEEP: "accuracy falls with the budget",
    Check.UNBOUNDED_ATTACK: "a large budget breaks everything",
    Check.ORDER_OF_STRENGTH: "stronger attacks are stronger",
    Check.GRADIENTS_HELP: "gradients help",
    Check.CONVERGED: "the attack has converged",
    Check.RESTARTS: "restarts and step sizes change little",
    Check.GRADIENT: "gradients are right",
    Check.SILENT_SUCCESS: "no success is lost on the way",
    Check.RANDOMNESS: "randomness is averaged over",
    Check.LOGITS: "outputs are logits of the image alone",
    Check.ABLATION: "the attack breaks what is undefended",
    Check.OTHER_LOSS: "the loss is not the obstacle",
    Check.STATISTICS: "enough images, the same for all",
    Check.PROVENANCE: "it is on record what was attacked",
}


class State(StrEnum):
    """Outcome of a check."""

    PASSED = "passed"
    RAISED = "raised"  # shown on the row; voids the claim
    NOT_RUN = "not_run"  # does not apply to this defense, or had no images


@dataclass(frozen=True)
class Flag:
    """Outcome of one check on one defense."""

    check: Check
    title: str
    state: State
    finding: str  # the figures behind the outcome
    value: float | None = None  # compared with the limit
    limit: float | None = None


def flag(check: Check, finding: str, value: float, limit: float) -> Flag:
    """Outcome of a check; raised if the value is over the limit, or NaN."""
    state = State.PASSED if value <= limit else State.RAISED
    return Flag(check, TITLES[check], state, finding, float(value), float(limit))


def not_run(check: Check, reason: str) -> Flag:
    """A check that does not apply."""
    return Flag(check, TITLES[check], State.NOT_RUN, reason)
