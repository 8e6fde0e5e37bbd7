"""Table 4's shape: every defense under attacks that go through it, by BPDA and by the best gradient that it has."""

from collections.abc import Iterator, Mapping

from benchmarks.common.pages import table
from benchmarks.defenses.faithfulness.paper import BPDA
from benchmarks.defenses.faithfulness.rows import ROWS
from stl_ray.report.records import Scores, TierRow, TierStep
from stl_ray.statistics import wilson


def adaptive_section(done: Mapping[str, Scores]) -> Iterator[str]:
    """A row for each defense: what is right when clean, under each attack alone, and under all with the checks' own."""
    yield "Accuracy with its 95 % Wilson interval, every attack on every image; the last column is the paper's Table 4:"
    lines = []
    for name, scores in done.items():
        tiers = scores.tiers
        if tiers is not None:
            (row,) = (item for item in tiers.rows if item.defense == name)
            lines.append(_line(name, row))
    header = (
        "Method", "Images", "Clean", "BPDA (T3)", "Strongest gradient (T4)", "Worst case", "Gradient", "Checks raised",
        "Paper, BPDA",
    )  # fmt: skip
    yield table(header, lines)


def _line(name: str, row: TierRow) -> list[str]:
    by_tier = {step.tier: step for step in row.steps}
    paper = BPDA.get(ROWS[name].paper or "")
    return [
        name,
        str(row.images),
        _clean(by_tier.get("T0")),
        _alone(by_tier.get("T3")),
        _alone(by_tier.get("T4")),
        f"{row.worst.accuracy:.3f} [{row.worst.low:.3f}, {row.worst.high:.3f}]",
        row.gradient,
        ", ".join(row.raised) or "none",
        "" if paper is None else f"{paper:.2f}",
    ]


def _clean(step: TierStep | None) -> str:
    return "" if step is None else f"{step.accuracy:.3f} [{step.low:.3f}, {step.high:.3f}]"


def _alone(step: TierStep | None) -> str:
    """What one attack by itself leaves right: `correct` of a step is after all before it too."""
    if step is None:
        return ""
    low, high = wilson(step.held, step.attacked)[1:]
    return f"{step.held / step.attacked:.3f} [{low:.3f}, {high:.3f}]"
