"""Dictionaries and routers at other resolutions than their own, as Markdown and as a figure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.common.heldout import HoldoutScore, difference
from benchmarks.common.images import LMBDA
from benchmarks.common.pages import measured_on, table, three_digits
from stl_ray.csc.learning.block import WINDOW
from stl_ray.report.charts import to_png
from stl_ray.statistics import Interval, wilson


@dataclass(frozen=True)
class Routing:
    """What one router makes of the same photographs at several sizes; N of them.

    Attributes:
        fitted: pixels; the size that the space was fitted at.
        training: images that it was fitted on.
        sizes_of_clusters: training images of each cluster.
        neighbours: k of the vote.
        side: of the autoencoder's thumbnails, in pixels.
        clusters: (N,) by size.
        moved: (N,) float64 by size, distance of the PCA latent from that at the largest size.
        nearest: (N,) float64, distance from the latent at the largest size to the nearest training latent.
    """

    fitted: int
    training: int
    sizes_of_clusters: Sequence[int]
    neighbours: int
    side: int
    clusters: Mapping[int, Tensor]
    moved: Mapping[int, Tensor]
    nearest: Tensor


@dataclass(frozen=True)
class Result:
    """Everything measured.

    Attributes:
        source: of the photographs, in words.
        images: that each dictionary was learned from.
        holdout: further ones, by which learning sees that it has converged.
        test: photographs that are judged on.
        sizes: pixels, ascending.
        iterations: of learning, in words, by the name of the dictionary.
        names: of the dictionaries, first those learned at each size, in the order of `sizes`.
        judgements: by name and size.
        routing: None where it was left out.
    """

    source: str
    images: int
    holdout: int
    test: int
    sizes: Sequence[int]
    iterations: Mapping[str, str]
    names: Sequence[str]
    judgements: Mapping[tuple[str, int], HoldoutScore]
    routing: Routing | None

    def excess(self, name: str, size: int) -> Interval | None:
        """Objective over that of the dictionary learned at that size, in per cent; None of that one itself."""
        own = self.names[self.sizes.index(size)]
        return None if name == own else difference(self.judgements[name, size], self.judgements[own, size])


def report(result: Result, command: str, seconds: float, figure: str | None) -> str:
    """The whole page."""

    def grid(cell: Callable[[str, int], str]) -> str:
        header = ("Method", *(f"at {size} px" for size in result.sizes))
        return table(header, ((name, *(cell(name, size) for size in result.sizes)) for name in result.names))

    judgements = result.judgements
    iterations = ", ".join(f"{count} {name}" for name, count in result.iterations.items())
    blocks = [
        "# Dictionaries and routers at other resolutions than their own",
        f"    {command}",
        f"{measured_on(seconds)} One process, one thread. {result.source}; the same photographs at every size, resized as "
        f"ingest does it (antialiased, 8 bits). {result.images} to learn each dictionary from and {result.holdout} more by "
        f"which learning stops, {result.test} to judge on. Universal dictionaries, K = 64, S = 8, lambda {LMBDA:g}, the "
        f"package's defaults; iterations: {iterations}. lambda is the same at every size. Of an image larger than "
        f"{WINDOW} px learning sees one random window of that side; below it an image has fewer pixels than such a window, and "
        "the rows that name a number of images make up for that. The authors' were learned by their own script from images of "
        "theirs.",
        "## Objective over that of the dictionary learned at that size",
        "Rows: dictionaries; columns: the size of the held-out images that it codes. Ratios of the mean of 1/2 ||s - D z||^2 + "
        "lambda ||z||_1, coded at the reference tier, with a 95 % interval from paired differences, image by image; below 1 it "
        "is better than the one learned at that size. The intervals are over images, for these dictionaries as they are.",
        *([f"![Objective over that of the dictionary learned at that size]({figure})"] if figure else []),
        grid(lambda name, size: _ratio(result.excess(name, size))),
        "## Objective per pixel",
        "Times 1,000; of the pixels of an image, not of its channels.",
        grid(lambda name, size: f"{1e3 * judgements[name, size].objective / size**2:.4g}"),
        "## PSNR, dB",
        "Of the mean squared error of the unclipped projection over all pixels.",
        grid(lambda name, size: f"{judgements[name, size].psnr:.2f}"),
        "## Sparsity, %",
        "Share of the coefficients that are not zero.",
        grid(lambda name, size: f"{100 * judgements[name, size].sparsity:.3f}"),
        *(_routing(result.routing) if result.routing is not None else []),
        "## Not measured",
        _NOT_MEASURED + ("" if result.routing is not None else "\n- routing"),
    ]
    return "\n\n".join(blocks) + "\n"


_NOT_MEASURED = """\
- how much another draw of training images, or another seed of learning, would change a ratio
- dictionaries of strata, other K, S and lambda, and a lambda that follows the size
- verdicts of a classifier, and attacked images
- photographs that were larger than the largest size, or of other shapes than the source's"""


def _ratio(excess: Interval | None) -> str:
    if excess is None:
        return "1"
    estimate, low, high = (1 + value / 100 for value in excess)
    return f"{estimate:.4f} ({low:.4f} to {high:.4f})"


def _routing(routing: Routing) -> list[str]:
    largest = max(routing.clusters)
    sizes = ", ".join(map(str, routing.sizes_of_clusters))
    return [
        "## Routing",
        f"A space fitted on {routing.training} training images at {routing.fitted} px, clusters of {sizes}, k = "
        f"{routing.neighbours}, thumbnails of {routing.side} x {routing.side} whatever the size; its dictionaries play no part. "
        f"{len(routing.nearest)} held-out photographs. Same cluster: as the same photograph at {largest} px, with a 95 % Wilson "
        f"interval. Moved: distance of the PCA latent from that at {largest} px, median and 95 % quantile, and the median of "
        "it over the distance from there to the nearest training latent.",
        table(
            ("Size", f"Same cluster as at {largest} px, % (95 %)", "Moved, median", "95 %", "Over the nearest, median"),
            _routing_rows(routing),
        ),
    ]


def _routing_rows(routing: Routing) -> Iterable[Sequence[str]]:
    largest = max(routing.clusters)
    for size, clusters in routing.clusters.items():
        if size == largest:
            continue
        same, moved = clusters == routing.clusters[largest], routing.moved[size]
        found = wilson(int(same.sum()), len(same))
        middle, high = torch.quantile(moved, torch.tensor((0.5, 0.95), dtype=moved.dtype)).tolist()
        yield (
            f"{size}", f"{100 * found.estimate:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})", three_digits(middle),
            three_digits(high), f"{float((moved / routing.nearest).median()):.3f}",
        )  # fmt: skip


def figure(result: Result) -> bytes:
    """PNG: a heat map of the objective over that of the dictionary learned at that size, in per cent."""
    return to_png(_draw, result)


def _draw(result: Result) -> Figure:
    found = [[result.excess(name, size) for size in result.sizes] for name in result.names]
    values = np.array([[0.0 if one is None else one.estimate for one in row] for row in found])
    drawing = Figure(figsize=(2.4 + 1.0 * len(result.sizes), 1.0 + 0.42 * len(result.names)), layout="constrained")
    axes = drawing.subplots()
    reach = max(1.0, float(np.abs(values).max()))
    axes.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        shade = "white" if abs(value) > 0.6 * reach else "black"
        axes.text(column, row, f"{value:+.1f}" if value else "0", ha="center", va="center", color=shade)
    axes.set_xticks(range(len(result.sizes)), [f"{size} px" for size in result.sizes])
    axes.set_yticks(range(len(result.names)), list(result.names))
    axes.set_title("objective, % over the dictionary learned at that size", fontsize=9)
    axes.grid(visible=False)
    return drawing
