"""What the attacks did: the table of every attack set, and caveats for images that could not be attacked."""

from collections.abc import Mapping, Sequence

from stl_ray.report.blocks import Block, Cell, Table, Text
from stl_ray.report.names import attack_label
from stl_ray.report.records import AttackSummary


def attack_blocks(attacks: Mapping[str, AttackSummary]) -> tuple[Block, ...]:
    """The table of what every attack set achieved, and a caveat for each with images that it could not attack."""
    shown = [*_STATUSES, *(name for name in _OTHER if any(item.statuses.get(name) for item in attacks.values()))]
    table = Table(
        name="attacks",
        caption="What every attack set achieved on what it was crafted on",
        columns=(
            "Attack",
            "Succeeded",
            *({**_STATUSES, **_OTHER}[name] for name in shown),
            "Dissimilarity",
            "Max linf",
        ),
        rows=tuple(_row(name, summary, shown) for name, summary in attacks.items()),
        footnote="Measured on the stored images against the clean ones, in [0, 1] pixel space. Succeeded: right when clean "
        "and wrong when attacked. Of the columns after it every image is in one; already wrong: when clean, and attacked all "
        "the same. Dissimilarity ||x' - x|| / ||x|| of each image: mean [min, max].",
    )
    return (
        table,
        *(
            Text(f"{attack_label(name)}: {missed} of {summary.images} images {words}", kind="caveat")
            for name, summary in attacks.items()
            for status, words in _CAVEATS.items()
            if (missed := summary.statuses.get(status, 0))
        ),
    )


_STATUSES = {"ok": "On budget", "already_wrong": "Already wrong", "budget_unreachable": "Budget unreachable"}
_OTHER = {
    "not_found": "None found",  # this one and the next of minimum-norm attacks
    "over_budget": "Found beyond the budget",
    "no_gradient": "No gradient",
    "gradient_not_finite": "Gradient not finite",
}
_CAVEATS = {
    "budget_unreachable": "could not be brought to the budget. They are closer to the clean images than the budget, and are "
    "scored as they are.",
    "no_gradient": "gave the attack no gradient to follow: every one was zero. That they are right says nothing of how "
    "robust they are.",
    "gradient_not_finite": "gave the attack answers that are not finite. That they are right says nothing of how robust they "
    "are.",
}


def _row(name: str, summary: AttackSummary, shown: Sequence[str]) -> tuple[Cell, ...]:
    spread = summary.dissimilarity
    return (
        Cell(attack_label(name)),
        Cell(f"{summary.successes} of {summary.images}"),
        *(Cell(str(summary.statuses.get(status, 0))) for status in shown),
        Cell(f"{spread.mean:.4f}", note=f"[{spread.min:.4f}, {spread.max:.4f}]"),
        Cell(f"{summary.linf_max:.4f}"),
    )
