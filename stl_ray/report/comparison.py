"""The comparison of two roots as blocks of a page, for the terminal too; as Markdown, and as CSV."""

import csv
import io
from collections.abc import Sequence

from stl_ray.report.blocks import Block, Cell, Section, Table, Text
from stl_ray.report.names import SETTINGS, listed
from stl_ray.report.page import MARKDOWN, render
from stl_ray.report.pairs import Compared, by_block
from stl_ray.report.two_roots import Comparison

LEVEL = 0.05
"""Up to which an adjusted p-value is called a difference."""


def summary(comparison: Comparison) -> str:
    """How many cells differ, in one line."""
    apart = sum(cell.p_adjusted <= LEVEL for cell in comparison.cells)
    verb = "differs" if apart == 1 else "differ"
    return f"{apart} of {len(comparison.cells)} cells {verb} at {100 * LEVEL:g} % after Holm's correction"


def comparison_sections(comparison: Comparison) -> tuple[Section, ...]:
    """What differs in the configurations, in the results, what only one has, and how many cells differ."""
    tables = [_results(comparison, *block, cells) for block, cells in by_block(comparison.cells)]
    lacking = (Section("lacking", "Not compared", (_lacking(comparison),)),) if comparison.lacking else ()
    return (
        Section("configuration", "Configuration", (_roots(comparison), _differences(comparison))),
        Section("results", "Results", (*tables, *_notes(comparison))),
        *lacking,
        Section("summary", "Summary", (Text(summary(comparison)),)),
    )


def to_markdown(comparison: Comparison) -> str:
    """The comparison as a page of Markdown."""
    names = [root.experiment.name for root in comparison.roots]
    return render(
        MARKDOWN, title=f"{names[0]} and {names[1]}, compared", name="", sections=comparison_sections(comparison)
    )


def to_csv(comparison: Comparison) -> str:
    """The cells of both, one a line, all digits of every number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["classifier", "setting", "defense_a", "defense_b", "attack", "images", "left_out_a", "left_out_b", "accuracy_a",
         "accuracy_b", "difference", "low", "high", "p", "p_adjusted"]
    )  # fmt: skip
    for cell in comparison.cells:
        pair = cell.pair
        writer.writerow(
            [pair.classifier, pair.setting, *pair.defenses, pair.attack, cell.images, *cell.left_out, *cell.accuracies,
             *cell.difference, cell.p, cell.p_adjusted]
        )  # fmt: skip
    return text.getvalue()


def _roots(comparison: Comparison) -> Table:
    defenses = comparison.defenses or ("", "")
    return Table(
        name="compared",
        caption="What is compared",
        columns=("", "Experiment", "Root", *["Defense"] * bool(comparison.defenses)),
        rows=tuple(
            tuple(map(Cell, (letter, root.experiment.name, root.storage.root, *[defense] * bool(defense))))
            for letter, root, defense in zip("AB", comparison.roots, defenses, strict=True)
        ),
    )


def _differences(comparison: Comparison) -> Block:
    if not comparison.differences:
        return Text("The configurations are the same.")
    return Table(
        name="configuration",
        caption="Keys of the configuration that differ",
        columns=("Key", "A", "B"),
        rows=tuple(tuple(map(Cell, (item.key, item.first, item.second))) for item in comparison.differences),
    )


def _results(comparison: Comparison, classifier: str, setting: str, cells: Sequence[Compared]) -> Table:
    return Table(
        name=f"{classifier}-{setting}",
        caption=f"{SETTINGS[setting]} ({classifier})",
        columns=("Cell", "Images", "A", "B", "B - A", "95 % interval", "", "p", "Holm"),
        rows=tuple(tuple(map(Cell, _row(cell))) for cell in cells),
        footnote=" ".join([*_left_out(cells), *_other_sets(comparison, cells)]),
    )


def _row(cell: Compared) -> tuple[str, ...]:
    difference = cell.difference
    return (
        f"{cell.pair.row} on {cell.pair.attack}",
        str(cell.images),
        *(f"{accuracy:.3f}" for accuracy in cell.accuracies),
        f"{difference.estimate:+.3f}",
        f"[{difference.low:+.3f}, {difference.high:+.3f}]",
        "*" if cell.apart else "",
        _p(cell.p),
        _p(cell.p_adjusted),
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _left_out(cells: Sequence[Compared]) -> list[str]:
    texts = []
    for letter, counts in zip("AB", zip(*(cell.left_out for cell in cells), strict=True), strict=True):
        least, most = min(counts), max(counts)
        if most:
            texts.append(f"{least} to {most} images of {letter}" if least < most else f"{most} images of {letter}")
    return [f"Left out: {listed(texts)}, of whose id and label the other has none."] if texts else []


def _other_sets(comparison: Comparison, cells: Sequence[Compared]) -> list[str]:
    keys = dict.fromkeys((cell.pair.classifier, cell.pair.attack) for cell in cells)
    named = [f"{key[1]} ({comparison.other_images[key]})" for key in keys if key in comparison.other_images]
    return [f"Attacked images that are not the same in A and B: {listed(named)}."] if named else []


def _notes(comparison: Comparison) -> list[Text]:
    notes = [
        Text(
            "Images are matched by id and label. B - A: difference of accuracies on the images that both have, with Newcombe's "
            "95 % interval (* where it excludes 0, each cell by itself); p: exact McNemar test; Holm: p adjusted for the number of "
            f"cells, {len(comparison.cells)}."
        )
    ]
    if comparison.other_test_images:
        notes.append(
            Text(
                "The test images of A and B are not the same files: that two of one id and label are the same picture is taken "
                "for granted, and whether attacks of the same settings had the same victim is not known.",
                kind="caveat",
            )
        )
    return notes


def _lacking(comparison: Comparison) -> Table:
    """The cells that are not compared; those of a row and with the same reasons are one line."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for pair, states in comparison.lacking:
        lines.setdefault((pair.classifier, pair.setting, pair.row, *states), []).append(pair.attack)
    return Table(
        name="not-compared",
        caption="Cells that are not compared",
        columns=("Classifier", "Setting", "Defense", "A", "B", "Sets"),
        rows=tuple(tuple(map(Cell, (*line, ", ".join(sets)))) for line, sets in lines.items()),
    )
