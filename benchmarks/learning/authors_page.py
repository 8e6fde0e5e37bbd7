"""Our dictionaries beside the authors' as Markdown and as a figure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from matplotlib.figure import Figure

from benchmarks.common.heldout import HoldoutScore, difference
from benchmarks.common.images import LMBDA
from benchmarks.common.pages import measured_on, table, three_digits
from benchmarks.learning.learners import FILTERS, SIDE
from stl_ray.report.charts import COLOURS, MARKERS, to_png
from stl_ray.statistics import Interval

PARTITION_AIM = 1
"""Per cent by which the held-out objective may depend on the blocks of consensus learning."""


@dataclass(frozen=True)
class Fit:
    """A dictionary of ours.

    Attributes:
        method: "consensus" or "online".
        images: that it was learned from.
        block: images of a block.
        iterations: outer iterations until learning stopped.
        converged: why it stopped.
        seconds: CPU time.
        judgement: on the test images.
    """

    method: str
    images: int
    block: int
    iterations: int
    converged: bool
    seconds: float
    judgement: HoldoutScore


@dataclass(frozen=True)
class Result:
    """Everything measured at one size.

    Attributes:
        size: pixels.
        sources: of the images, in words.
        name: of the authors' dictionary.
        holdout: training images by which learning sees that it has converged.
        test: images that are judged on.
        theirs: the authors' dictionary.
        curve: by method, then by the number of images.
        partition: by method, then by the number of blocks; the first of a method has one.
    """

    size: int
    sources: str
    name: str
    holdout: int
    test: int
    theirs: HoldoutScore
    curve: Sequence[Fit]
    partition: Sequence[Fit]


def report(results: Sequence[Result], command: str, seconds: float, figure: str | None) -> str:
    """The whole page."""
    sources = "; ".join(
        f"{r.size} px: learned from {r.sources} ({r.test} clean images), with {r.holdout} more training images by "
        "which learning stops"
        for r in results
    )
    blocks = [
        "# Learned dictionaries, beside the authors'",
        f"    {command}",
        f"{measured_on(seconds)} One process, one thread. {sources}. K = {FILTERS}, S = {SIDE}, lambda {LMBDA:g}.",
        "## Held-out objective against training images",
        _CURVE,
        *([f"![Held-out objective against the number of training images]({figure})"] if figure else []),
        table(_CURVE_HEADER, (row for result in results for row in _curve_rows(result))),
    ]
    if any(result.partition for result in results):
        rows = (row for result in results for row in _partition_rows(result))
        blocks += ["## The partition into blocks", _PARTITION, table(_PARTITION_HEADER, rows)]
    return "\n\n".join(blocks) + "\n"


_CURVE = (
    "Objective: mean of 1/2 ||s - D z||^2 + lambda ||z||_1 over the test images, coded at the reference tier, whatever "
    "the dictionary. Sparsity: share of the coefficients that are not zero. PSNR: of the mean squared error of the "
    "unclipped projection. Differences are paired, image by image, in per cent of the other's mean objective, with a "
    "95 % interval over test images; below zero ours is better. How much another draw of training images or another "
    "seed would change it, they do not say. Smaller numbers of images are the first of the larger ones. All else is "
    "the package's default."
)
_CURVE_HEADER = (
    "Size", "Method", "Images", "Objective", "From the authors', % (95 %)", "From the most images, %", "Sparsity, %",
    "PSNR, dB", "Iterations", "Ended", "CPU s",
)  # fmt: skip


def _curve_rows(result: Result) -> Iterable[Sequence[str]]:
    theirs, size = result.theirs, f"{result.size}"
    yield (size, result.name, "-", f"{theirs.objective:.4g}", "0", "-", *_code(theirs), "-", "-", "-")
    for _, fits in groupby(result.curve, lambda fit: fit.method):
        curve = list(fits)
        for fit in curve:
            judgement = fit.judgement
            most = difference(judgement, curve[-1].judgement).estimate
            yield (
                size, fit.method, f"{fit.images}", f"{judgement.objective:.4g}",
                _interval(difference(judgement, theirs)), f"{most:+.2f}", *_code(judgement), f"{fit.iterations}",
                _ending(fit), three_digits(fit.seconds),
            )  # fmt: skip


_PARTITION = (
    "The same training images dealt into blocks; differences from one block as above. The aim is consensus learning's, "
    "whose result is to depend on the images and hardly on how they are dealt; online learning codes a few blocks at a "
    "time."
)
_PARTITION_HEADER = (
    "Size", "Method", "Images", "Blocks of", "Objective", "From one block, % (95 %)", "Aim", "Iterations", "Ended",
    "CPU s",
)  # fmt: skip


def _partition_rows(result: Result) -> Iterable[Sequence[str]]:
    for method, fits in groupby(result.partition, lambda fit: fit.method):
        dealt = list(fits)
        for fit in dealt:
            change = difference(fit.judgement, dealt[0].judgement)
            yield (
                f"{result.size}", method, f"{fit.images}", f"{fit.block}", f"{fit.judgement.objective:.4g}",
                "0" if fit is dealt[0] else _interval(change),
                f"within {PARTITION_AIM}" if method == "consensus" and fit is not dealt[0] else "",
                f"{fit.iterations}", _ending(fit), three_digits(fit.seconds),
            )  # fmt: skip


def _interval(found: Interval) -> str:
    return f"{found.estimate:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _code(judgement: HoldoutScore) -> tuple[str, str]:
    return f"{100 * judgement.sparsity:.3f}", f"{judgement.psnr:.2f}"


def _ending(fit: Fit) -> str:
    return "converged" if fit.converged else "all iterations"


def figure(results: Sequence[Result]) -> bytes:
    """PNG: held-out objective against the number of training images, a panel for each size; dashed: the authors'."""
    return to_png(_draw, results)


def _draw(results: Sequence[Result]) -> Figure:
    drawing = Figure(figsize=(4.2 * len(results), 3.6), layout="constrained")
    for axes, result in zip(drawing.subplots(1, len(results), squeeze=False)[0], results, strict=True):
        by_method = groupby(result.curve, lambda fit: fit.method)
        for (method, fits), colour, marker in zip(by_method, COLOURS[1:], MARKERS[1:], strict=False):
            points = [(fit.images, fit.judgement.objective) for fit in fits]
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, linewidth=1.2, label=f"ours, {method}")
        axes.axhline(result.theirs.objective, color=COLOURS[0], linestyle="--", linewidth=1, label="the authors'")
        axes.set_xscale("log")
        counts = sorted({fit.images for fit in result.curve})
        axes.set_xticks(counts, [f"{count}" for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("training images")
        axes.set_title(f"{result.size} px: {result.name}")
    drawing.axes[0].set_ylabel("held-out objective")
    drawing.legend(*drawing.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawing
