"""What the attacks did: the table of every attack set, and which images are closer than the budget."""

from stl_ray.report.blocks import Block, Cell, Table, Text
from stl_ray.report.names import attack_label
from stl_ray.report.records import AttackSummary, Scores


def attack_blocks(scores: Scores) -> tuple[Block, ...]:
    """The table of what every attack set achieved, and a caveat for each with images that missed the budget."""
    table = Table(
        caption="What every attack set achieved on the vanilla classifier",
        columns=(
            "Attack",
            "Succeeded",
            "On budget",
            "Already wrong",
            "Budget unreachable",
            "Dissimilarity",
            "Max linf",
        ),
        rows=tuple(_row(name, summary) for name, summary in scores.attacks.items()),
        footnote="Measured on the stored 8-bit images against the clean ones, in [0, 1] pixel space. Succeeded: right "
        "when clean and wrong when attacked. On budget, already wrong (when clean; attacked all the same) and budget "
        "unreachable: every image is one of the three. Dissimilarity ||x' - x|| / ||x|| of each image: mean [min, max].",
    )
    return (
        table,
        *(
            Text(
                f"{attack_label(name)}: {missed} of {summary.images} images could not be brought to the budget. They "
                "are closer to the clean images than the budget, and are scored as they are.",
                kind="caveat",
            )
            for name, summary in scores.attacks.items()
            if (missed := summary.statuses.get("budget_unreachable", 0))
        ),
    )


def _row(name: str, summary: AttackSummary) -> tuple[Cell, ...]:
    spread = summary.dissimilarity
    return (
        Cell(attack_label(name)),
        Cell(f"{summary.successes} of {summary.images}"),
        *(Cell(str(summary.statuses.get(status, 0))) for status in ("ok", "already_wrong", "budget_unreachable")),
        Cell(f"{spread.mean:.4f}", note=f"[{spread.min:.4f}, {spread.max:.4f}]"),
        Cell(f"{summary.linf_max:.4f}"),
    )
