"""Sweeps: entries of an experiment that differ in one number alone, and the accuracy as a curve over it.

Of defenses, it may be a number of their options or of their spaces (lambda, filters, clusters); of attack sets, the budget
(a security curve: Biggio and Roli 2018) or an option such as steps. Whether they were written as a grid makes no difference.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure as Drawing
from pydantic import BaseModel

from stl_ray.config import Experiment, space_of
from stl_ray.report import charts
from stl_ray.report.accuracy import RULE, cells_of
from stl_ray.report.blocks import Figure
from stl_ray.report.lettering import for_figure
from stl_ray.report.names import SETTINGS, STL_DEFENSES, UNDEFENDED, attack_label, defense_label
from stl_ray.report.records import ScoreCell, Scores
from stl_ray.store.layout import CLEAN

FEWEST = 3
"""Entries that make a curve."""

BUDGETS = ("dissimilarity", "l2", "linf")

WIDE = 8
"""Ratio of the largest to the smallest value from which they are on a logarithmic axis."""


@dataclass(frozen=True)
class Sweep:
    """Entries that differ in one number.

    Attributes:
        key: of the number, dotted.
        entries: (value, name), by value.
    """

    key: str
    entries: tuple[tuple[float, str], ...]


def sweeps(entries: Mapping[str, Mapping[str, Any]]) -> tuple[Sweep, ...]:
    """The sweeps among entries, by name, each as flat keys with their values."""
    keys = dict.fromkeys(key for entry in entries.values() for key in entry)
    found = []
    for key in keys:
        alike: dict[frozenset[Any], dict[float, str]] = {}
        for name, entry in entries.items():
            if isinstance(value := entry.get(key), int | float) and not isinstance(value, bool):
                rest = frozenset((other, _text(own)) for other, own in entry.items() if other != key)
                alike.setdefault(rest, {}).setdefault(float(value), name)
        found += [Sweep(key, tuple(sorted(names.items()))) for names in alike.values() if len(names) >= FEWEST]
    return tuple(found)


def _text(value: object) -> str:
    """Equal numbers alike, whichever type they were written as."""
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


def defense_sweeps(experiment: Experiment) -> tuple[Sweep, ...]:
    """Those of the defenses, and of the spaces that they project onto."""
    entries = {}
    for item in experiment.defenses:
        own = dict(_flat({"defense": item.defense, "options": dict(item.options)}))
        if item.defense in STL_DEFENSES:
            own.pop("options.space", None)
            own |= _flat({"space": space_of(experiment, item).model_dump(exclude={"name"})})
        entries[item.name] = own
    return sweeps(entries)


def attack_sweeps(experiment: Experiment) -> tuple[Sweep, ...]:
    """Those of the attack sets."""
    return sweeps({item.name: dict(_flat(item.model_dump(exclude={"name"}))) for item in experiment.attack.sets})


def sweep_figures(experiment: Experiment, scores: Scores) -> Iterator[Figure]:
    """A chart for every sweep and setting: of defenses a curve for each attack, of attack sets one for each defense."""
    rule = f" {RULE}" if any(cell.detection is not None for cell in scores.cells) else ""
    for setting, title in SETTINGS.items():
        cells = cells_of(scores, setting)
        for sweep in defense_sweeps(experiment):
            names = {name for _, name in sweep.entries}
            curves = {
                attack_label(attack): [(value, cells.get((name, attack))) for value, name in sweep.entries]
                for attack in dict.fromkeys(attack for defense, attack in cells if defense in names)
            }
            levels = {
                attack_label(attack): cell.accuracy for (name, attack), cell in cells.items() if name == UNDEFENDED
            }
            yield from _figure(f"{setting}-defenses", title, sweep, curves, levels, scores.chance)
        for sweep in attack_sweeps(experiment):
            names = {name for _, name in sweep.entries}
            points = [*([(0.0, CLEAN)] if sweep.key in BUDGETS else []), *sweep.entries]
            curves = {
                defense_label(defense): [(value, cells.get((defense, attack))) for value, attack in points]
                for defense in dict.fromkeys(defense for defense, attack in cells if attack in names)
            }
            yield from _figure(f"{setting}-sets", title, sweep, curves, {}, scores.chance, rule)


def sweep_chart(
    key: str, curves: Mapping[str, Sequence[tuple[float, ScoreCell]]], levels: Mapping[str, float], chance: float
) -> Drawing:
    """Accuracy over a number, with its 95 % interval as a band; dotted: chance, and levels in the colour of their curve."""
    figure = Drawing(figsize=(6.2, 3.4), layout="constrained")
    axes = figure.subplots()
    values = sorted({value for points in curves.values() for value, _ in points})
    for (label, points), colour, marker in zip(
        curves.items(), cycle(charts.COLOURS), cycle(charts.MARKERS), strict=False
    ):
        x = [value for value, _ in points]
        axes.plot(x, [c.accuracy for _, c in points], f"{marker}-", color=colour, markersize=4, label=for_figure(label))
        axes.fill_between(
            x, [c.low for _, c in points], [c.high for _, c in points], color=colour, alpha=0.15, linewidth=0
        )
        if label in levels:
            axes.axhline(levels[label], color=colour, linestyle=":", linewidth=1)
    axes.axhline(chance, color="#888888", linestyle=":", linewidth=1)
    if values[0] > 0 and values[-1] >= WIDE * values[0]:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set(xlabel=for_figure(key), ylabel="accuracy", ylim=(0, 1.02))
    charts.add_legend(figure, axes, 4)
    return figure


def _figure(
    kind: str,
    title: str,
    sweep: Sweep,
    curves: Mapping[str, Sequence[tuple[float, ScoreCell | None]]],
    levels: Mapping[str, float],
    chance: float,
    rule: str = "",
) -> Iterator[Figure]:
    """The chart of the curves that have enough points."""
    there = {label: [(value, cell) for value, cell in points if cell is not None] for label, points in curves.items()}
    drawn = {label: points for label, points in there.items() if len(points) >= FEWEST}
    if drawn:
        names = [name for _, name in sweep.entries]
        caption = f"{title}: accuracy over {sweep.key}, of {', '.join(names)}. Bands: 95 % intervals. Dotted: chance"
        undefended = ", and no defense under the same attack" if levels else ""
        figure = f"sweep-{kind}-{names[0]}-{sweep.key}"
        yield charts.chart(figure, f"{caption}{undefended}.{rule}", sweep_chart, sweep.key, drawn, levels, chance)


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested sections by their dotted keys."""
    for key, value in values.items():
        if isinstance(value, BaseModel):
            value = value.model_dump()
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
