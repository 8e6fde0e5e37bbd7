"""Randomised defenses over several draws, beside no defense on the same images: one, most of them, all of them."""

from collections.abc import Iterator

from stl_ray.report.accuracy import cells_of
from stl_ray.report.blocks import EMPTY, Block, Cell, Table
from stl_ray.report.intervals import interval_cell, share_cell
from stl_ray.report.names import SETTINGS, UNDEFENDED, attack_label, defense_label, unique
from stl_ray.report.records import DrawScore, Scores


def draw_blocks(scores: Scores) -> Iterator[Block]:
    """A table for every setting in which a randomised defense was drawn again."""
    for setting in SETTINGS:
        found = {(row.defense, row.attack): row for row in scores.draws if row.setting == setting}
        if found:
            yield _table(scores, setting, found)


def _table(scores: Scores, setting: str, found: dict[tuple[str, str], DrawScore]) -> Table:
    attacks, cells = unique(attack for _, attack in found), cells_of(scores, setting)
    bare = (cells[UNDEFENDED, attack] for attack in attacks)
    rows = [(Cell(defense_label(UNDEFENDED)), *(interval_cell(c.accuracy, c.low, c.high) for c in bare))]
    for defense in unique(defense for defense, _ in found):
        of_defense = [found.get((defense, attack)) for attack in attacks]
        label, draws = defense_label(defense), max(row.draws for row in of_defense if row)
        rows.append((Cell(f"{label}, one draw"), *(_single(row) for row in of_defense)))
        rows.append(
            (Cell(f"{label}, majority of {draws}"), *(share_cell(row.majority if row else None) for row in of_defense))
        )
        rows.append((Cell(f"{label}, all {draws}"), *(share_cell(row.every if row else None) for row in of_defense)))
    return Table(
        f"draws-{setting}",
        f"{SETTINGS[setting]}: randomised defenses, one draw and several",
        ("Defense", *map(attack_label, attacks)),
        tuple(rows),
        "One draw: the mean over the draws, ± its standard deviation from draw to draw. Majority: the most frequent answer is right. "
        "All: every draw is right, which is what is left where an attacker may try as often and needs one success. [95 % Wilson "
        "interval over images.] The seeds of the draws are not those of the deployed pipeline, nor of any attack.",
    )


def _single(row: DrawScore | None) -> Cell:
    if row is None:
        return EMPTY
    return Cell(f"{row.single:.3f}", note="" if row.spread is None else f"± {row.spread:.3f}")
