"""What the detectors of defenses refused, and how well their scores tell attacked images from clean ones."""

from stl_ray.report.accuracy import RULE, cells_of
from stl_ray.report.blocks import EMPTY, Cell, Table
from stl_ray.report.intervals import interval_cell, share_cell
from stl_ray.report.names import attack_label, defense_label
from stl_ray.report.records import Area, ScoreCell, Scores
from stl_ray.store.layout import CLEAN


def detection_table(scores: Scores, setting: str) -> Table | None:
    """A row for each defense with a detector and each attack set; None where there is no such defense."""
    cells = {key: cell for key, cell in cells_of(scores, setting).items() if cell.detection is not None}
    if not cells:
        return None
    attacked = {key: cell for key, cell in cells.items() if key[1] != CLEAN}
    return Table(
        name=f"detection-{setting}",
        caption="What detectors refused",
        columns=("Defense", "Attack", "Refused, clean", "Refused, attacked", "Right among the accepted", "AUROC"),
        rows=tuple(_row(cell, cells[defense, CLEAN]) for (defense, _), cell in (attacked or cells).items()),
        footnote=f"Shares [95 % Wilson interval]. {RULE} Right among the accepted: share of the attacked images whose class is "
        "right, of those that were not refused. AUROC: area under the ROC curve of the detector's score, this set against the "
        "clean images [95 % interval by Hanley and McNeil's variance, Newcombe's method 5, which takes the two for independent]; "
        "it says nothing of an attack that knows of the detector, unless the set is one.",
        notes="interval",
    )


def _row(cell: ScoreCell, clean: ScoreCell) -> tuple[Cell, ...]:
    own, before = cell.detection, clean.detection
    if own is None or before is None:
        raise AssertionError("a defense has a detector on every set or on none")
    attacked = cell.attack != CLEAN
    return (
        Cell(defense_label(cell.defense)),
        Cell(attack_label(cell.attack)) if attacked else EMPTY,
        share_cell(before.refused),
        share_cell(own.refused) if attacked else EMPTY,
        share_cell(own.accepted),
        _area(own.auroc),
    )


def _area(area: Area | None) -> Cell:
    return EMPTY if area is None else interval_cell(area.estimate, area.low, area.high)
