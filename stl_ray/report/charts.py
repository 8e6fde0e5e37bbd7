"""The plots: accuracies, PSNR, learning curves, numbers of clusters. Records in, a figure out; no global state."""

import io
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from math import nan
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stl_ray.report import blocks
from stl_ray.report.accuracy import cells_of
from stl_ray.report.lettering import for_figure, lettering
from stl_ray.report.names import SETTINGS, attack_label, classifier_label, defense_label, dictionary_label, unique
from stl_ray.report.records import (
    AutoencoderEpoch,
    Candidate,
    DictionaryIteration,
    ScoreCell,
    Scores,
    TrainingEpoch,
    Worst,
)
from stl_ray.store.layout import CLEAN

Arguments = ParamSpec("Arguments")

DPI = 150
LETTERS = 60  # that fit side by side below a chart of attacks
# Okabe and Ito's palette: distinct to colour-blind eyes and in print. Markers differ as well.
COLOURS = ("#555555", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800")
MARKERS = ("s", "D", "o", "^", "v", "P", "X", "*")
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.6,
    "axes.titlesize": 10.0,
    "legend.frameon": False,
    # Text stays text, and elements have the same names every time.
    "svg.fonttype": "none",
    "svg.hashsalt": "stl-ray",
}


def chart(
    name: str, caption: str, draw: Callable[Arguments, Figure], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> blocks.Figure:
    """The block of the chart that `draw` makes of the arguments; the same chart gives the same bytes."""
    with mpl.rc_context(STYLE | lettering()):
        figure = draw(*args, **kwargs)
        return blocks.Figure(name, caption, _saved(figure, "png"), _saved(figure, "svg"))


def to_png(draw: Callable[Arguments, Figure], *args: Arguments.args, **kwargs: Arguments.kwargs) -> bytes:
    """PNG bytes of the figure that `draw` makes of the arguments; the same figure gives the same bytes."""
    with mpl.rc_context(STYLE | lettering()):
        return _saved(draw(*args, **kwargs), "png")


def drawn(draw: Callable[Arguments, Figure], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
    """The figure that `draw` makes of the arguments, in the style of the report."""
    with mpl.rc_context(STYLE | lettering()):
        return draw(*args, **kwargs)


def _saved(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """The figure as a file, which says neither when nor by what it was written."""
    unsaid = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=unsaid)
    return buffer.getvalue()


def accuracy_chart(scores: Scores, setting: str, *, worst_case: bool = False) -> Figure:
    """Accuracy with its 95 % interval per defense and attack in one setting; dotted line: chance.

    Args:
        scores: of the experiment.
        setting: of the cells.
        worst_case: whether the worst case of the tiers, if there are any, stands beside the attacks.
    """
    shown: list[tuple[str, str, ScoreCell | Worst]] = [
        (cell.defense, cell.attack, cell) for cell in cells_of(scores, setting).values()
    ]
    if worst_case and scores.tiers is not None:
        shown += [(row.defense, "worst case", row.worst) for row in scores.tiers.rows]
    figure = Figure(figsize=(6.2, 3.2), layout="constrained")
    axes = figure.subplots()
    _dodged(axes, [(d, a, s.accuracy, (s.accuracy - s.low, s.high - s.accuracy)) for d, a, s in shown])
    axes.axhline(scores.chance, color="#888888", linestyle=":", linewidth=1)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("accuracy")
    add_legend(figure, axes, 4)
    return figure


def roc_chart(scores: Scores) -> Figure:
    """ROC curves of every detector on every attack set, with the deployed classifier; dots: its own threshold."""
    deployed = {(cell.defense, cell.attack): cell for cell in scores.cells if cell.detection is not None}
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], ":", color="#888888", linewidth=1)
    defenses = unique(defense for defense, _ in deployed)
    attacks = unique(attack for _, attack in deployed if attack != CLEAN)
    for (defense, attack), cell in deployed.items():
        if cell.detection is None or cell.detection.roc is None:
            continue
        colour = COLOURS[attacks.index(attack) % len(COLOURS)]
        marker = MARKERS[defenses.index(defense) % len(MARKERS)]
        label = for_figure(f"{defense_label(defense)}, {attack_label(attack)}")
        axes.plot(*zip(*cell.detection.roc, strict=True), "-", color=colour, linewidth=1.3)
        clean = deployed[defense, CLEAN].detection
        refused = 0.0 if clean is None else clean.refused.share
        axes.plot([refused], [cell.detection.refused.share], marker, color=colour, markersize=5, label=label)
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="share of clean images refused", ylabel="share of attacked images refused"
    )  # fmt: skip
    add_legend(figure, axes, 3)
    return figure


def psnr_chart(scores: Scores) -> Figure:
    """Mean PSNR against the clean image per defense and attack, in dB."""
    first = next(setting for setting in SETTINGS if cells_of(scores, setting))
    cells = cells_of(scores, first).values()
    figure = Figure(figsize=(6.2, 3.2), layout="constrained")
    axes = figure.subplots()
    _dodged(axes, [(c.defense, c.attack, nan if c.psnr is None else c.psnr, None) for c in cells])
    axes.set_ylabel("PSNR against the clean image, dB")
    add_legend(figure, axes, 4)
    return figure


def _dodged(axes: Axes, points: Sequence[tuple[str, str, float, tuple[float, float] | None]]) -> None:
    """Points (defense, attack, value, error below and above): attacks side by side, defenses beside each other."""
    defenses, attacks = unique([point[0] for point in points]), unique([point[1] for point in points])
    step = 0.7 / max(len(defenses), 1)
    for number, (defense, colour, marker) in enumerate(zip(defenses, cycle(COLOURS), cycle(MARKERS), strict=False)):
        series = [point for point in points if point[0] == defense]
        errors = [point[3] for point in series if point[3] is not None]
        axes.errorbar(
            [attacks.index(point[1]) + (number - (len(defenses) - 1) / 2) * step for point in series],
            [point[2] for point in series],
            yerr=list(zip(*errors, strict=True)) if errors else None,
            fmt=marker,
            color=colour,
            markersize=5,
            elinewidth=1.3,
            capsize=2.5,
            label=for_figure(defense_label(defense)),
        )
    labels = [for_figure(attack_label(attack)) for attack in attacks]
    slanted: dict[str, Any] = (
        {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, labels)) > LETTERS else {}
    )
    axes.set_xticks(range(len(attacks)), labels, **slanted)
    axes.set_xlim(-0.5, len(attacks) - 0.5)
    axes.grid(visible=False, axis="x")


def autoencoder_chart(epochs: Sequence[AutoencoderEpoch]) -> Figure:
    """Loss and PSNR of the denoising autoencoder by epoch."""
    figure = Figure(figsize=(8.0, 2.7), layout="constrained")
    loss, psnr = figure.subplots(1, 2)
    numbers = [epoch.epoch for epoch in epochs]
    loss.plot(numbers, [epoch.train_loss for epoch in epochs], ".-", color=COLOURS[0], label="training")
    loss.plot(numbers, [epoch.validation_loss for epoch in epochs], ".-", color=COLOURS[2], label="validation")
    loss.legend()
    loss.set(xlabel="epoch", ylabel="binary cross-entropy")
    psnr.plot(numbers, [epoch.psnr for epoch in epochs], ".-", color=COLOURS[2], label="denoised")
    noisy = [(epoch.epoch, epoch.noisy_psnr) for epoch in epochs if epoch.noisy_psnr is not None]
    if noisy:
        psnr.plot(*zip(*noisy, strict=True), ":", color=COLOURS[0], label="noisy, as it goes in")
        psnr.legend()
    psnr.set(xlabel="epoch", ylabel="PSNR of the held-out images, dB")
    _count_whole_steps(loss, psnr)
    return figure


def dictionary_chart(dictionaries: Mapping[str, Sequence[DictionaryIteration]]) -> Figure:
    """Objective on held-out images, sparsity and PSNR of every dictionary by iteration."""
    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    panels = figure.subplots(1, 3)
    for (name, steps), colour in zip(dictionaries.items(), cycle(COLOURS), strict=False):
        iterations = [step.iteration for step in steps]
        curves = ([s.holdout_objective for s in steps], [s.sparsity for s in steps], [s.psnr for s in steps])
        for axes, values in zip(panels, curves, strict=True):
            axes.plot(iterations, values, ".-", color=colour, label=for_figure(dictionary_label(name)))
    labels = ("objective on held-out images", "share of non-zero coefficients", "PSNR of the reconstruction, dB")
    for axes, label in zip(panels, labels, strict=True):
        axes.set(xlabel="iteration", title=label)
    _count_whole_steps(*panels)
    add_legend(figure, panels[0], 6)
    return figure


def candidates_chart(candidates: Sequence[Candidate], chosen: int) -> Figure:
    """Inertia and silhouette of the training latents by the number of clusters; dotted line: the chosen number."""
    figure = Figure(figsize=(8.0, 2.7), layout="constrained")
    panels = figure.subplots(1, 2)
    rows = sorted(candidates, key=lambda row: row.clusters)
    curves = ([row.inertia for row in rows], [row.silhouette for row in rows])
    labels = ("mean squared distance to the own centroid", "mean silhouette")
    for axes, values, label in zip(panels, curves, labels, strict=True):
        axes.plot([row.clusters for row in rows], values, ".-", color=COLOURS[2])
        axes.axvline(chosen, color=COLOURS[6], linestyle=":", label=f"chosen: M = {chosen}")
        axes.set(xlabel="M, the number of clusters", title=label)
    panels[0].set_ylim(bottom=0)
    panels[0].legend()
    _count_whole_steps(*panels)
    return figure


def training_chart(classifiers: Mapping[str, Sequence[TrainingEpoch]]) -> Figure:
    """Loss and accuracy of every classifier by epoch: lines on training images, dashes on validation images."""
    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for (name, epochs), colour in zip(classifiers.items(), cycle(COLOURS), strict=False):
        numbers = [epoch.epoch for epoch in epochs]
        loss.plot(numbers, [epoch.loss for epoch in epochs], color=colour, label=for_figure(classifier_label(name)))
        accuracy.plot(numbers, [epoch.accuracy for epoch in epochs], color=colour)
        validated = [epoch for epoch in epochs if epoch.validation_loss is not None]
        numbers = [epoch.epoch for epoch in validated]
        loss.plot(numbers, [epoch.validation_loss for epoch in validated], "--", color=colour)
        accuracy.plot(numbers, [epoch.validation_accuracy for epoch in validated], "--", color=colour)
    loss.set(xlabel="epoch", ylabel="loss")
    accuracy.set(xlabel="epoch", ylabel="accuracy")
    _count_whole_steps(loss, accuracy)
    add_legend(figure, loss, 4)
    return figure


def add_legend(figure: Figure, axes: Axes, columns: int) -> None:
    """The legend of a panel below all of them, in at most so many columns: fewer where its labels are long."""
    handles, labels = axes.get_legend_handles_labels()
    for number in range(columns, 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=number)
        if number == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _count_whole_steps(*panels: Axes) -> None:
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
