"""What a defense leaves of perturbations: its size in the image and in the classifier's features, and its frequencies."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from matplotlib.figure import Figure as Drawing

from stl_ray.report import charts
from stl_ray.report.blocks import EMPTY, Block, Cell, Figure, Table
from stl_ray.report.intervals import interval_cell, share_cell
from stl_ray.report.lettering import for_figure
from stl_ray.report.names import attack_label, defense_label, unique
from stl_ray.report.records import Perturbation, Scores


def perturbation_blocks(scores: Scores) -> tuple[Block, ...]:
    """A table, and for each attack set a chart of the spectra; empty where nothing was measured."""
    if not scores.perturbations:
        return ()
    return (_table(scores.perturbations), *_spectra(scores.perturbations))


def spectrum_chart(spectra: Mapping[str, Sequence[float]]) -> Drawing:
    """Mean squared length by spatial frequency, on a logarithmic axis, of each kind."""
    figure = Drawing(figsize=(6.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for (label, values), colour, marker in zip(
        spectra.items(), cycle(charts.COLOURS), cycle(charts.MARKERS), strict=False
    ):
        centres = [(number + 0.5) / (2 * len(values)) for number in range(len(values))]
        axes.plot(centres, values, f"{marker}-", color=colour, markersize=3.5, linewidth=1.2, label=for_figure(label))
    if any(value > 0 for values in spectra.values() for value in values):
        axes.set_yscale("log")
    axes.set(xlabel="spatial frequency, cycles per pixel", ylabel="part of ||d||² / ||x||²", xlim=(0, 0.5))
    charts.add_legend(figure, axes, 4)
    return figure


def _table(rows: Sequence[Perturbation]) -> Table:
    columns = (
        "Defense",
        "Attack",
        "Image before",
        "Image behind",
        "Smaller",
        "Features before",
        "Features behind",
        "Cluster kept",
    )
    footnote = (
        f"||x' - x|| / ||x|| before the defense and behind it, of the image and of the classifier's penultimate features: median "
        f"[quartiles] over {_counts(rows)} images. Smaller: share of images whose perturbation is smaller behind the defense [95 % "
        "Wilson interval]. Cluster kept: share of images that are routed as when clean."
    )
    return Table(
        "perturbations", "Perturbations before and behind each defense", columns, tuple(map(_row, rows)), footnote
    )


def _counts(rows: Sequence[Perturbation]) -> str:
    counts = sorted({row.images for row in rows})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _row(row: Perturbation) -> tuple[Cell, ...]:
    return (
        Cell(defense_label(row.defense)),
        Cell(attack_label(row.attack)),
        _quartiles(row.image_before),
        _quartiles(row.image_behind),
        share_cell(row.smaller),
        _quartiles(row.features_before),
        _quartiles(row.features_behind),
        share_cell(row.cluster_kept),
    )


def _quartiles(values: tuple[float, float, float] | None) -> Cell:
    return EMPTY if values is None else interval_cell(values[1], values[0], values[2])


def _spectra(rows: Sequence[Perturbation]) -> Iterator[Figure]:
    for attack in unique(row.attack for row in rows):
        own = [row for row in rows if row.attack == attack and row.spectrum_behind is not None]
        labelled = [("before", row.spectrum_before) for row in own[:1]]
        labelled += [(defense_label(row.defense), row.spectrum_behind) for row in own]
        spectra = {label: values for label, values in labelled if values is not None}
        if own:
            caption = (
                f"{attack_label(attack)}: the perturbation before any defense and behind each, mean squared length by spatial "
                "frequency; the last bin has the corners of the plane too, beyond half a cycle."
            )
            yield charts.chart(f"spectrum-{attack}", caption, spectrum_chart, spectra)
