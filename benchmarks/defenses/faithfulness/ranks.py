"""Our figures and the paper's in the units in which they compare: gains, and the share of the loss that comes back.

The gain of a defense is its accuracy minus that of no defense on the same images. What an attack takes differs between networks;
the share that a defense gives back, gain / (clean - attacked) of no defense, does not depend on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import spearmanr

from benchmarks.defenses.faithfulness.paper import COLUMNS, NO_DEFENSE
from benchmarks.defenses.faithfulness.parts import ATTACKS
from benchmarks.defenses.faithfulness.rows import ROWS
from stl_ray.report.accuracy import cells_of
from stl_ray.report.names import UNDEFENDED
from stl_ray.report.paper import PaperTable
from stl_ray.report.records import ScoreCell, Scores
from stl_ray.store.layout import CLEAN


@dataclass(frozen=True)
class Figure:
    """A defense in a column: accuracy, gain, and the share of the attack's loss that comes back (None: clean, or no loss)."""

    accuracy: float
    gain: float
    share: float | None


def ours(scores: Scores, row: str) -> dict[str, Figure]:
    """A row of ours by the paper's columns; those whose attack set there is."""
    cells = cells_of(scores, "vanilla")
    bare = {COLUMNS[number]: cell.accuracy for number, cell in _columns(cells, UNDEFENDED)}
    own = {COLUMNS[number]: cell.accuracy for number, cell in _columns(cells, row)}
    return {column: _figure(own[column], bare, column) for column in own}


def papers(table: PaperTable) -> dict[str, dict[str, Figure]]:
    """Every defense of a table of the paper's, by its name and by column."""
    rows = {
        name: {column: value for column, value in zip(COLUMNS, values, strict=True) if value is not None}
        for name, values in table.rows
    }
    bare = rows.pop(NO_DEFENSE)
    return {name: {column: _figure(own[column], bare, column) for column in own} for name, own in rows.items()}


def shared(done: Mapping[str, Scores], table: PaperTable) -> dict[str, tuple[dict[str, Figure], dict[str, Figure]]]:
    """Rows that both have: ours and the paper's, by our name."""
    theirs = papers(table)
    return {
        row: (ours(scores, row), theirs[name])
        for row, scores in done.items()
        if (name := ROWS[row].paper) is not None and name in theirs
    }


def correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's of (ours, the paper's); None of fewer than three, or where one side is constant."""
    mine, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    if len(pairs) < 3 or len(set(mine)) == 1 or len(set(theirs)) == 1:
        return None
    return float(spearmanr(mine, theirs).statistic)


def _columns(cells: Mapping[tuple[str, str], ScoreCell], row: str) -> list[tuple[int, ScoreCell]]:
    """The cells of a row, with the numbers of the paper's columns, whose order is that of the attack sets."""
    attacks = {attack: cell for (defense, attack), cell in cells.items() if defense == row}
    order = (CLEAN, *(item["name"] for item in ATTACKS))
    return [(order.index(attack), cell) for attack, cell in attacks.items()]


def _figure(accuracy: float, bare: Mapping[str, float], column: str) -> Figure:
    gain, lost = accuracy - bare[column], bare[COLUMNS[0]] - bare[column]
    return Figure(accuracy, gain, gain / lost if lost > 0 else None)
