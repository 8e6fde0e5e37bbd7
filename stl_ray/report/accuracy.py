"""The accuracy tables of one setting, and the sentence that says what they show."""

from collections.abc import Sequence

from stl_ray.report.blocks import EMPTY, Cell, Table
from stl_ray.report.intervals import interval_cell
from stl_ray.report.names import SETTINGS, UNDEFENDED, attack_label, defense_label, listed, unique
from stl_ray.report.paper import PaperTable
from stl_ray.report.records import Comparison, ScoreCell, Scores
from stl_ray.store.layout import CLEAN

RULE = "Refused by a detector, an image is wrong when clean and right when attacked; accepted, it is right where its class is."
"""What right means where a defense refuses images."""


def cells_of(scores: Scores, setting: str) -> dict[tuple[str, str], ScoreCell]:
    """The cells of a setting by (defense, attack)."""
    return {(cell.defense, cell.attack): cell for cell in scores.cells if cell.setting == setting}


def accuracy_table(scores: Scores, setting: str) -> Table:
    """Rows defenses, columns clean and the attacks; accuracy with its 95 % Wilson interval.

    The best of a column stands out only where pairing on the same images separates it from no defense.
    """
    cells = cells_of(scores, setting)
    defenses, attacks = unique(defense for defense, _ in cells), unique(attack for _, attack in cells)
    strong = {key for attack in attacks for key in _separated_best([c for c in cells.values() if c.attack == attack])}
    return Table(
        name=f"accuracy-{setting}",
        caption=f"{SETTINGS[setting]} ({scores.classifier}), this experiment",
        columns=("Defense", *map(attack_label, attacks)),
        rows=tuple(
            (
                Cell(defense_label(defense)),
                *(_accuracy(cells.get((defense, attack)), (defense, attack) in strong) for attack in attacks),
            )
            for defense in defenses
        ),
        footnote=f"Accuracy [95 % Wilson interval] on {scores.scored}; chance is {scores.chance:.3g}. "
        "Bold: the best of its column, where the paired 95 % interval of its difference from no defense excludes 0 "
        f"(no defense: where that of every defense does).{_of_detectors(scores)}",
        notes="interval",
    )


def _of_detectors(scores: Scores) -> str:
    """What right means where a defense has a detector; empty where none has."""
    return f" {RULE}" if any(cell.detection is not None for cell in scores.cells) else ""


def difference_table(scores: Scores, setting: str) -> Table:
    """Every defense minus no defense, paired on the same images, with 95 % interval and McNemar's p, adjusted by Holm's method."""
    cells = {key: cell for key, cell in cells_of(scores, setting).items() if cell.versus_none is not None}
    defenses, attacks = unique(defense for defense, _ in cells), unique(attack for _, attack in cells)
    return Table(
        name=f"difference-{setting}",
        caption="Difference from no defense, paired on the same images",
        columns=("Defense", *map(attack_label, attacks)),
        rows=tuple(
            (Cell(defense_label(defense)), *(_difference(cells.get((defense, attack))) for attack in attacks))
            for defense in defenses
        ),
        footnote="Difference of accuracies [95 % interval, Newcombe's method 10], p of the exact McNemar test"
        f"{_correction([cell.versus_none for cell in cells.values()])} Bold where the interval excludes 0: of each comparison "
        "by itself.",
        notes="interval and p",
    )


def _correction(comparisons: Sequence[Comparison | None]) -> str:
    """What was done about the number of comparisons."""
    if any(comparison is None or comparison.p_adjusted is None for comparison in comparisons):
        return ". No correction for the number of comparisons: these scores are of an earlier version."
    return f", adjusted by Holm's method for the {len(comparisons)} comparisons of this table."


def paper_table(table: PaperTable) -> Table:
    """A table of the paper's, labelled as such."""
    return Table(
        name=f"paper-{table.number}",
        caption=table.title,
        columns=("Defense", *(column.label for column in table.columns)),
        rows=tuple((Cell(name), *map(_published, values)) for name, values in table.rows),
        footnote="The paper's own figures, on other images, with another classifier and other attacks of the same "
        "name: for the shape of the table, not for comparison digit by digit.",
    )


def _published(value: float | None) -> Cell:
    return EMPTY if value is None else Cell(f"{value:.4f}")


def verdict(scores: Scores, setting: str, defenses: Sequence[str]) -> tuple[str, ...]:
    """One sentence per defense: under which attacks it is above no defense, by how much, and where it is not."""
    cells = cells_of(scores, setting)
    attacks = unique(attack for _, attack in cells if attack != CLEAN)
    sentences = []
    for defense in defenses:
        comparisons = {
            attack: cell.versus_none
            for (name, attack), cell in cells.items()
            if name == defense and cell.versus_none is not None
        }
        if comparisons:
            sentences.append(f"{SETTINGS[setting]}, {defense_label(defense)}: {_finding(attacks, comparisons)}")
    return tuple(sentences)


def _finding(attacks: Sequence[str], comparisons: dict[str, Comparison]) -> str:
    attacked = {attack: comparisons[attack] for attack in attacks if attack in comparisons}
    above = [_named(attack, c) for attack, c in attacked.items() if c.low > 0]
    below = [_named(attack, c) for attack, c in attacked.items() if c.high < 0]
    undecided = [_named(attack, c) for attack, c in attacked.items() if c.low <= 0 <= c.high]
    holds = len(above) == len(attacks)
    parts = []
    if above:
        parts.append(f"above no defense under {'every attack: ' if holds else ''}{listed(above)}")
    if undecided:
        parts.append(f"not distinguishable from no defense under {listed(undecided)}")
    if below:
        parts.append(f"below no defense under {listed(below)}")
    if CLEAN in comparisons:
        parts.append(f"on clean images the difference is {_signed(comparisons[CLEAN])}")
    finding = f"{'; '.join(parts)}."
    if attacks:
        outcome = "holds" if holds else "is not confirmed"
        finding += f" The paper's finding (STL above no defense under every attack) {outcome} here."
    return finding


def _named(attack: str, comparison: Comparison) -> str:
    return f"{attack_label(attack)} ({_signed(comparison)})"


def _signed(comparison: Comparison) -> str:
    return f"{comparison.difference:+.3f} [{comparison.low:+.3f}, {comparison.high:+.3f}]"


def _accuracy(cell: ScoreCell | None, strong: bool) -> Cell:
    if cell is None:
        return EMPTY
    return interval_cell(cell.accuracy, cell.low, cell.high, strong=strong)


def _difference(cell: ScoreCell | None) -> Cell:
    if cell is None or cell.versus_none is None:
        return EMPTY
    difference = cell.versus_none
    p = difference.p if difference.p_adjusted is None else difference.p_adjusted
    return Cell(
        f"{difference.difference:+.3f}",
        note=f"[{difference.low:+.3f}, {difference.high:+.3f}], {'p < 0.001' if p < 0.001 else f'p = {p:.3f}'}",
        strong=difference.low > 0 or difference.high < 0,
    )


def _separated_best(column: Sequence[ScoreCell]) -> set[tuple[str, str]]:
    """The cells of a column with the most correct images, where pairing separates them from no defense."""
    best = [cell for cell in column if cell.correct == max(other.correct for other in column)]
    others = [cell for cell in column if cell.defense != UNDEFENDED]
    all_below = bool(others) and all(c.versus_none is not None and c.versus_none.high < 0 for c in others)
    return {
        (cell.defense, cell.attack)
        for cell in best
        if (all_below if cell.defense == UNDEFENDED else cell.versus_none is not None and cell.versus_none.low > 0)
    }
