"""Routing and distances of latents as Markdown, and their figure."""

from collections.abc import Iterable, Sequence
from itertools import cycle

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.common.pages import table, three_digits
from benchmarks.strata.routing import CENTROID, FAR, SIGNIFICANT, Assignment, Decision, Distances
from stl_ray.report.charts import COLOURS, MARKERS, to_png
from stl_ray.report.names import attack_label
from stl_ray.statistics import Interval, wilson
from stl_ray.store.layout import CLEAN

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def routing_blocks(found: Sequence[Assignment], decision: Decision) -> list[str]:
    """Clusters under attack and the rule for k; the nearest centroid is the last of `found`."""
    attacks = [name for name in found[0].clusters if name != CLEAN]
    header = (
        "Method", *(f"Changed by {attack_label(name)}, % (95 %)" for name in attacks),
        "Clean as nearest centroid, % (95 %)", "Ties, %", "Training as k-means, % (95 %)", "Missed, % (95 %)",
    )  # fmt: skip
    return [
        "## Routing",
        "Changed: images in another cluster than when clean, assigned in the same way. Clean as nearest centroid: clean "
        "images in the cluster whose centroid is nearest. Ties: votes of all sets in which two clusters had as many "
        f"neighbours. Training: {found[0].training} of the reference latents, with themselves left out of the vote, in "
        "their k-means cluster. Missed: images of which a version, clean or attacked, is in another cluster than the one "
        "whose centroid is nearest to the clean latent. 95 % Wilson intervals.",
        table(header, _routing_rows(found, attacks)),
        _rule(decision, found[-1].clusters[CLEAN]),
    ]


def _routing_rows(found: Sequence[Assignment], attacks: Sequence[str]) -> Iterable[Sequence[str]]:
    truth = found[-1].clusters[CLEAN]
    for one in found:
        votes = len(truth) * len(one.clusters)
        yield (
            one.name, *(share(one.changed(name)) for name in attacks), share(one.clusters[CLEAN] == truth),
            "-" if one.neighbours is None else f"{100 * one.tied / votes:.2f}", percent(wilson(one.own, one.training)),
            share(one.missed(truth)),
        )  # fmt: skip


def _rule(decision: Decision, truth: Tensor) -> str:
    best, misses = (
        decision.best,
        {one.name: f"{one.name} misses {int(one.missed(truth).sum())}" for one in (decision.current, decision.best)},
    )
    return (
        "The rule for the default of `neighbours`: the k of this space stays, unless the k with the fewest missed images "
        "(the smaller one of equals) has significantly fewer by the exact McNemar test on the same images, p times the number "
        f"of other k below {SIGNIFICANT:g}. Of {len(truth)} images {' and '.join(misses.values())}; the fewest are those of "
        f"{best.name}. {decision.only_current} are missed by {decision.current.name} only and {decision.only_best} by "
        f"{best.name} only, p = {decision.p:.2g}. By the rule: **{decision.chosen.name}**."
    )


def distance_blocks(found: Distances, figure: str | None) -> list[str]:
    """Distances of latents; `figure` is a link to `figure`'s."""
    header = (
        "Distance", *(f"{quantile:.0%}" for quantile in QUANTILES), "Over the nearest, median",
        "Nearer than the nearest, % (95 %)", f"Nearer than the {FAR}th, % (95 %)",
    )  # fmt: skip
    return [
        "## Latent distances",
        "Euclidean distances in the space's PCA coordinates, quantiles over the clean test images: to the image's own "
        f"attacked version, to its nearest and its {FAR}th nearest training latent, and to another test image at random. "
        "Over the nearest: the distance divided by that image's distance to its nearest training latent. Nearer: images for "
        "which it is the smaller one.",
        *([f"![Distances of latents, and changed clusters against k]({figure})"] if figure else []),
        table(header, _distance_rows(found)),
    ]


def _distance_rows(found: Distances) -> Iterable[Sequence[str]]:
    for name, values in _by_name(found).items():
        quantiles = torch.quantile(values, torch.tensor(QUANTILES, dtype=values.dtype)).tolist()
        nearer = (
            "-" if values is bound or values is found.nearest else share(values < bound)
            for bound in (found.nearest, found.far)
        )
        over = "1" if values is found.nearest else f"{float((values / found.nearest).median()):.2f}"
        yield (name, *(three_digits(value) for value in quantiles), over, *nearer)


def _by_name(found: Distances) -> dict[str, Tensor]:
    return {
        **{f"to itself, {attack_label(name)}": values for name, values in found.attacked.items()},
        "to the nearest training latent": found.nearest,
        f"to the {FAR}th nearest": found.far,
        "random pairs": found.pairs,
    }


def share(which: Tensor) -> str:
    """Of (N,) bool, with its interval."""
    return percent(wilson(int(which.sum()), len(which)))


def percent(found: Interval) -> str:
    """Of a proportion with its interval."""
    return f"{100 * found.estimate:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def figure(distances: Distances, assignments: Sequence[Assignment]) -> bytes:
    """PNG: cumulative distances of latents, and changed clusters against k."""
    return to_png(_draw, distances, assignments)


def _draw(distances: Distances, assignments: Sequence[Assignment]) -> Figure:
    drawing = Figure(figsize=(8.6, 4.0), layout="constrained")
    left, right = drawing.subplots(1, 2)
    _draw_distances(left, distances)
    _draw_changes(right, assignments)
    drawing.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawing


def _draw_distances(axes: Axes, found: Distances) -> None:
    for (name, values), colour in zip(_by_name(found).items(), cycle(COLOURS[1:]), strict=False):
        ordered = np.sort(values.numpy())
        line = "-" if name.startswith("to itself") else "--"
        axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), line, where="post", color=colour, label=name)
    axes.set_xscale("log")
    axes.set(xlabel="distance of latents from the clean image's", ylabel="share of the test images")


def _draw_changes(axes: Axes, assignments: Sequence[Assignment]) -> None:
    """With 95 % intervals, in the colours of the distances; the nearest centroid at the right end."""
    places = range(len(assignments))
    attacks = [name for name in assignments[0].clusters if name != CLEAN]
    for number, (name, colour, marker) in enumerate(zip(attacks, COLOURS[1:], MARKERS[1:], strict=False)):
        changed = [one.changed(name) for one in assignments]
        found = [wilson(int(which.sum()), len(which)) for which in changed]
        axes.errorbar(
            [place + (number - 1) * 0.15 for place in places],
            [100 * one.estimate for one in found],
            yerr=[[100 * (o.estimate - o.low) for o in found], [100 * (o.high - o.estimate) for o in found]],
            fmt=marker,
            color=colour,
            markersize=4,
            elinewidth=1,
            clip_on=False,
        )
    axes.set_xticks(places, ["\ncentroid" if one.name == CENTROID else f"{one.neighbours}" for one in assignments])
    axes.set_ylim(bottom=0)
    axes.set(xlabel="k of the vote", ylabel="images that change cluster, %")
