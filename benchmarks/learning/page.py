"""The race of the learners as Markdown and as a figure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmarks.common.images import LMBDA
from benchmarks.common.pages import measured_on, table, three_digits
from benchmarks.learning.learners import FILTERS, PEER_ITERATIONS, PEER_PASSES, SIDE
from benchmarks.learning.race import GROWTH, Run
from stl_ray.report.charts import COLOURS, MARKERS, to_png

AIM = 30
"""CPU time of SPORCO's consensus over ours, at the objective at which SPORCO ends."""

SHARES = (0.1, 0.25, 0.5, 1.0)
"""Of SPORCO's run, at which objectives are compared."""


@dataclass(frozen=True)
class Result:
    """Everything measured at one size.

    Attributes:
        size: pixels.
        source: of the images, in words.
        images: to learn from.
        own: further ones, by which our methods see that they have converged.
        held: further ones, on which all are judged.
        block: images of a block of ours.
        runs: SPORCO's, then ours.
        threads: wall seconds on one thread and on two, by the name of the learner.
        few: outer iterations that these are of.
    """

    size: int
    source: str
    images: int
    own: int
    held: int
    block: int
    runs: Sequence[Run]
    threads: Mapping[str, tuple[float, float]]
    few: int

    @property
    def peers(self) -> list[Run]:
        """SPORCO's runs."""
        return [run for run in self.runs if run.learner.peer]

    @property
    def ours(self) -> list[Run]:
        """The package's runs."""
        return [run for run in self.runs if not run.learner.peer]


def report(results: Sequence[Result], command: str, seconds: float, cap: float, figure: str | None) -> str:
    """The whole page."""
    names = [run.learner.name for run in results[0].ours]
    blocks = [
        "# Dictionary learning on a CPU, beside SPORCO",
        f"    {command}",
        f"{measured_on(seconds)} One process, one thread unless said. {_sources(results)} K = {FILTERS}, S = {SIDE}, "
        f"lambda {LMBDA:g}.",
        "## CPU time to equal objectives",
        _race_note(results, cap),
        *([f"![Held-out objective against CPU time]({figure})"] if figure else []),
        table(_race_header(names), (row for result in results for row in _race_rows(result))),
        "## Where each ended",
        _END,
        table(_END_HEADER, (row for result in results for row in _end_rows(result))),
        "## Two threads",
        f"Wall seconds of the first {results[0].few} outer iterations in one process, the faster of two times.",
        table(_THREADS_HEADER, (row for result in results for row in _threads_rows(result))),
    ]
    return "\n\n".join(blocks) + "\n"


def _sources(results: Sequence[Result]) -> str:
    return "; ".join(
        f"{r.size} px: {r.images} images to learn from and {r.held} others to be judged on ({r.source}), our blocks of "
        f"{r.block}, and {r.own} more by which ours stop"
        for r in results
    ) + "."  # fmt: skip


def _race_note(results: Sequence[Result], cap: float) -> str:
    capped = [f"{r.learner.name} at {result.size} px" for result in results for r in result.peers if _capped(r)]
    return (
        "CPU seconds of the process (splitting the bands and, in ours, the objective of their own holdout included; "
        "judging not) until the mean CBPDN objective of the held-out images is not above that of SPORCO after the "
        f"given share of its run's CPU time; checkpoints lie {GROWTH - 1:.0%} of the time or one step apart. SPORCO, "
        "consensus: `ConvBPDNDictLearn` with dmethod cns, CBPDN rho 50 lambda + 0.5, CCMOD rho 1, ZeroMean, "
        f"{PEER_ITERATIONS} iterations, initial filters of random numbers unless said, the recipe "
        "of its colour example; online: `OnlineConvBPDNDictLearn`, ZeroMean, defaults otherwise, "
        f"{PEER_PASSES} passes. float32, one FFT thread, plans warmed. Cut off after {cap:g} CPU s: "
        f"{', '.join(capped) or 'none'}. Ours: the package's defaults, which begin with patches of the "
        "images. A ratio is SPORCO's seconds over ours."
    )


def _capped(run: Run) -> bool:
    return run.ending == "capped"


def _race_header(names: Sequence[str]) -> Sequence[str]:
    both = (part for name in names for part in (f"{name}, s", "ratio"))
    return ("Size", "Method", "Share of its run", "Its objective", "Its s", *both, "Aim")


def _race_rows(result: Result) -> Iterable[Sequence[str]]:
    for peer in result.peers:
        for share in SHARES:
            objective = peer.after(share).judgement.objective
            theirs = peer.first(objective)
            assert theirs is not None
            cells: list[str] = []
            for run in result.ours:
                own = run.first(objective)
                cells += ["not reached", "-"] if own is None else [three_digits(own), three_digits(theirs / own)]
            aim = f">= {AIM}" if share == 1 and peer is result.peers[0] else ""
            yield (
                f"{result.size}", peer.learner.name + (", capped" if _capped(peer) else ""), f"{share:.0%}",
                f"{objective:.4g}", three_digits(theirs), *cells, aim,
            )  # fmt: skip


_END = (
    "Objective (mean of the image), sparsity (share of the coefficients that are not zero) and PSNR of the held-out "
    "images with the last dictionary. Busy is CPU time over wall time: below 1.00 something else ran on the core."
)
_END_HEADER = ("Size", "Method", "Iterations", "CPU s", "Objective", "Sparsity, %", "PSNR, dB", "Ended", "Busy")


def _end_rows(result: Result) -> Iterable[Sequence[str]]:
    for run in result.runs:
        final = run.final
        judgement = final.judgement
        yield (
            f"{result.size}", run.learner.name, f"{final.iteration}", three_digits(final.seconds),
            f"{judgement.objective:.4g}", f"{100 * judgement.sparsity:.3f}", f"{judgement.psnr:.2f}", run.ending,
            f"{run.busy:.2f}",
        )  # fmt: skip


_THREADS_HEADER = ("Size", "Method", "One thread", "Two threads", "Ratio")


def _threads_rows(result: Result) -> Iterable[Sequence[str]]:
    for name, (one, two) in result.threads.items():
        yield f"{result.size}", name, three_digits(one), three_digits(two), f"{one / two:.2f}"


def figure(results: Sequence[Result]) -> bytes:
    """PNG: held-out objective against CPU time, a panel for each size; dashed: where SPORCO's consensus ended."""
    return to_png(_draw, results)


def _draw(results: Sequence[Result]) -> Figure:
    drawing = Figure(figsize=(4.2 * len(results), 3.6), layout="constrained")
    for axes, result in zip(drawing.subplots(1, len(results), squeeze=False)[0], results, strict=True):
        for run, colour, marker in zip(result.runs, COLOURS, MARKERS, strict=False):
            seconds = [c.seconds for c in run.checkpoints]
            objectives = [c.judgement.objective for c in run.checkpoints]
            axes.plot(seconds, objectives, color=colour, label=run.learner.name, linewidth=1.2)
            axes.plot(seconds[-1:], objectives[-1:], color=colour, marker=marker)
        axes.axhline(result.peers[0].final.judgement.objective, color=COLOURS[0], linestyle="--", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlabel("CPU seconds")
        axes.set_title(f"{result.size} px, {result.images} images")
    drawing.axes[0].set_ylabel("held-out objective")
    drawing.legend(*drawing.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawing
