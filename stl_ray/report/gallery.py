"""The gallery: a figure for every attack set, and the same in words, where every name is whole."""

from collections.abc import Sequence

from stl_ray.report import charts, pictures
from stl_ray.report.blocks import EMPTY, Block, Cell, Figure, Table
from stl_ray.report.names import attack_label, class_label, defense_label, unique
from stl_ray.report.records import GalleryRow


def gallery_blocks(rows: Sequence[GalleryRow], class_names: tuple[str, ...]) -> tuple[Block, ...]:
    """Figure and table of every attack set."""
    blocks: list[Block] = []
    for attack in unique(row.attack for row in rows):
        shown = [row for row in rows if row.attack == attack]
        caption = (
            f"{attack_label(attack)}: adversarial, purified, clean. Under an adversarial image what the vanilla "
            "classifier predicts, under a purified one what the retrained classifier predicts (the vanilla one where "
            "none was retrained), under a clean one its true class."
        )
        if any(row.refused_after for row in shown):
            caption += " Refused: by the defense's detector, which is right of an attacked image, as its class is."
        png = charts.to_png(pictures.gallery, shown, class_names)
        blocks += [Figure(f"gallery-{attack}", caption, png), in_words(shown, class_names)]
    return tuple(blocks)


def in_words(rows: Sequence[GalleryRow], class_names: tuple[str, ...]) -> Table:
    """The classes under the images of one attack set, in a row for each image."""

    def after(row: GalleryRow) -> Cell:
        before = f"{pictures.mark(row.right_after)} "
        if row.refused_after:
            return Cell(before + pictures.REFUSED)
        return _named(row.pred_after, class_names, before)

    ids, defenses = unique(row.id for row in rows), unique(row.defense for row in rows)
    by_key, any_of = {(row.id, row.defense): row for row in rows}, {row.id: row for row in rows}
    attack = attack_label(rows[0].attack)
    return Table(
        f"gallery-{rows[0].attack}",
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
