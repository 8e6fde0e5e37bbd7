"""The gallery: a figure for every attack set, and the same in words, where every name is whole."""

from collections.abc import Sequence

from stl_ray.report import charts, pictures
from stl_ray.report.blocks import EMPTY, Block, Cell, Figure, Table
from stl_ray.report.names import attack_label, class_label, defense_label, unique
from stl_ray.report.records import GalleryRow

_KINDS = {
    "spaced": ("gallery", ""),
    "saved": ("saved", "Saved: right behind the defense alone, under the attack that is hardest for it. "),
    "broken": ("broken", "Broken: clean images that are right without the defense alone. "),
}
"""What a kind's figures are named after, and what their captions begin with."""


def gallery_blocks(rows: Sequence[GalleryRow], class_names: tuple[str, ...]) -> tuple[Block, ...]:
    """Figure and table of every attack set, and of the images that the defense saves and breaks."""
    blocks: list[Block] = []
    for attack, why in dict.fromkeys((row.attack, row.why) for row in rows):
        shown = [row for row in rows if (row.attack, row.why) == (attack, why)]
        name, said = _KINDS[why]
        caption = (
            f"{said}{attack_label(attack)}: adversarial, purified, clean. Under an adversarial image what the vanilla "
            "classifier predicts, under a purified one what the retrained classifier predicts (the vanilla one where "
            "none was retrained), under a clean one its true class."
        )
        if any(row.refused_after for row in shown):
            caption += " Refused: by the defense's detector, which is right of an attacked image, as its class is."
        png = charts.to_png(pictures.gallery, shown, class_names)
        blocks += [Figure(f"{name}-{attack}", caption, png), in_words(shown, class_names)]
    return tuple(blocks)


def in_words(rows: Sequence[GalleryRow], class_names: tuple[str, ...]) -> Table:
    """The classes under the images of one figure, in a row for each image."""

    def after(row: GalleryRow) -> Cell:
        before = f"{pictures.mark(row.right_after)} "
        if row.refused_after:
            return Cell(before + pictures.REFUSED)
        return _named(row.pred_after, class_names, before)

    ids, defenses = unique(row.id for row in rows), unique(row.defense for row in rows)
    by_key, any_of = {(row.id, row.defense): row for row in rows}, {row.id: row for row in rows}
    attack = attack_label(rows[0].attack)
    return Table(
        f"{_KINDS[rows[0].why][0]}-{rows[0].attack}",
        f"{attack}: the images and classes of the figure, in words",
        ("Image", attack, *map(defense_label, defenses), "Clean"),
        tuple(
            (
                Cell(identifier),
                _named(
                    any_of[identifier].pred_before, class_names, f"{pictures.mark(any_of[identifier].right_before)} "
                ),
                *(
                    after(by_key[key]) if key in by_key else EMPTY
                    for key in ((identifier, defense) for defense in defenses)
                ),
                _named(any_of[identifier].label, class_names),
            )
            for identifier in ids
        ),
        folded=True,
    )


def _named(index: int, class_names: tuple[str, ...], before: str = "") -> Cell:
    """The name of a class, with its number, which stands for it in the figure where its letters cannot be drawn."""
    label = class_label(index, class_names)
    return Cell(before + label, note="" if label == str(index) else f"class {index}")
