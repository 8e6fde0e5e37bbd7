"""The measurements as Markdown."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from benchmarks.common.images import LMBDA, NOISE, Images
from benchmarks.common.pages import command_line as command_line
from benchmarks.common.pages import processor, table, three_digits
from benchmarks.projection.contestants import Contestant
from benchmarks.projection.measure import GAP, MOST_RUNS, TURN_SECONDS, Optimum, Record
from benchmarks.projection.resources import FURTHER, Memory, Parallel
from benchmarks.projection.resources import PEER_ITERATIONS as MEMORY_ITERATIONS

SPEED_AIMS = {
    "default": {32: 80, 64: 140, 128: 180, 224: 220},
    "reference": {32: 60, 64: 90, 128: 130, 224: 150},
}
"""SPORCO's time over ours, median over images, by tier and size."""

ERROR_AIMS = {"default": "5e-3 / 2e-2", "reference": "2e-3"}
"""Relative error of the projected image, median / worst, by tier."""

THREADS_AIM = 1.8


@dataclass(frozen=True)
class Result:
    """Everything measured at one size; records, memory and contestants in the same order."""

    size: int
    images: Images
    contestants: Sequence[Contestant]
    records: Sequence[Record]
    split: float
    optima: Sequence[Optimum]
    parallel: Mapping[str, Parallel]
    memory: Sequence[Memory]


def report(results: Sequence[Result], command: str, seconds: float) -> str:
    """The whole page."""
    blocks = [
        "# The projection on a CPU, beside SPORCO",
        *_setting(results, command, seconds),
        "## Time",
        _TIME,
        table(_TIME_HEADER, (row for result in results for row in _time_rows(result))),
        "Of ours, the split takes " + ", ".join(f"{r.split:.2f} ms at {r.size} px" for r in results) + ".",
        "## Accuracy",
        _accuracy_note(results),
        table(_ACCURACY_HEADER, (row for result in results for row in _accuracy_rows(result))),
        "## Clean and noisy images",
        f"Even images are clean, odd ones carry random signs at an L2 dissimilarity of {NOISE:g}.",
        table(_HALVES_HEADER, (row for result in results for row in _halves_rows(result))),
        "## Two threads",
        _PARALLEL,
        table(_PARALLEL_HEADER, (row for result in results for row in _parallel_rows(result))),
        "## Memory",
        _MEMORY,
        table(_MEMORY_HEADER, (row for result in results for row in _memory_rows(result))),
    ]
    return "\n\n".join(blocks) + "\n"


def _setting(results: Sequence[Result], command: str, seconds: float) -> list[str]:
    versions = {"Python": platform.python_version(), "stl-ray": version("stl-ray")}
    versions |= {name: version(name) for name in ("torch", "numpy", "sporco", "pyFFTW")}
    sources = "; ".join(
        f"{result.size} px: {len(result.images.pixels)} images ({result.images.source}), half of them noisy, "
        f"dictionary: {result.images.dictionary_source}"
        for result in results
    )
    return [
        f"    {command}",
        f"{processor()}; {', '.join(f'{name} {number}' for name, number in versions.items())}. One process, one thread "
        f"unless said; took {seconds:.0f} s. {sources}. lambda {LMBDA:g}.",
    ]


_TIME = (
    "Wall time of the whole T(x) of one image, Tikhonov split and synthesis included on both sides. Within an image "
    "the methods take turns, in an order that changes; ratios are per image. SPORCO: `tikhonov_filter(x, 5, 16)`, "
    "`ConvBPDN` with MaxMainIter 200, RelStopTol 5e-3, `reconstruct()`, float32, one FFT thread, plan warmed. "
    f"A turn is repeated until it has lasted {TURN_SECONDS * 1e3:.0f} ms, {MOST_RUNS} times at most, and counts with the median of "
    "its runs. Busy is CPU time over wall time: below 1.00 something else ran on the core, above 1.00 a second thread."
)
_TIME_HEADER = (
    "Size", "Method", "Images", "ms, median (worst)", "Images/s per core", "SPORCO / it, median (least)", "On", "Aim", "Busy",
)  # fmt: skip


def _time_rows(result: Result) -> Iterable[Sequence[str]]:
    peer = result.records[0]
    for contestant, record in zip(result.contestants, result.records, strict=True):
        times = list(record.milliseconds.values())
        shared = [peer.milliseconds[i] / record.milliseconds[i] for i in peer.milliseconds if i in record.milliseconds]
        aim = _aim(result, contestant, SPEED_AIMS[contestant.tier].get(result.size)) if record is not peer else ""
        yield (
            f"{result.size}", contestant.name, f"{len(times)}", f"{three_digits(median(times))} ({three_digits(max(times))})",
            three_digits(1e3 / median(times)),
            "1" if record is peer else f"{three_digits(median(shared))} ({three_digits(min(shared))})",
            f"{len(shared)}", aim, f"{median(record.busy.values()):.2f}",
        )  # fmt: skip


def _aim(result: Result, contestant: Contestant, factor: int | None) -> str:
    """The aim of the CPU's own method, which is the second contestant's."""
    return f">= {factor}" if factor and contestant.method == result.contestants[1].method else ""


_ACCURACY_HEADER = (
    "Size", "Method", "On", "T, median / worst", "Aim", "High band, median / worst", "Objective, median / worst",
    "Ended (all images)",
)  # fmt: skip


def _accuracy_note(results: Sequence[Result]) -> str:
    slack = ", ".join(
        f"{max(optimum.slack for optimum in result.optima):.0e} at {result.size} px"
        for result in results
        if result.optima
    )
    return (
        "Relative errors of the projected image T and of its high band against the certified optimum (relative "
        f"duality gap <= {GAP:.0e}), and the relative excess of the objective, in the run of the times above. The "
        f"certificate proves the optimum's own T to within {slack or 'nothing, for none was reached'}."
    )


def _accuracy_rows(result: Result) -> Iterable[Sequence[str]]:
    for contestant, record in zip(result.contestants, result.records, strict=True):
        if not record.image_error:
            continue
        errors = [record.image_error, record.high_error, record.objective_gap]
        image, high, gap = (f"{median(e.values()):.1e} / {max(e.values()):.1e}" for e in errors)
        endings = ", ".join(f"{count} {name}" for name, count in sorted(record.endings.items()))
        aim = ERROR_AIMS.get(contestant.tier, "")
        yield f"{result.size}", contestant.name, f"{len(record.image_error)}", image, aim, high, gap, endings


_HALVES_HEADER = ("Size", "Method", "ms, clean", "ms, noisy", "T, clean, median / worst", "T, noisy, median / worst")


def _halves_rows(result: Result) -> Iterable[Sequence[str]]:
    for contestant, record in zip(result.contestants, result.records, strict=True):
        halves = [[v for i, v in record.milliseconds.items() if i % 2 == half] for half in (0, 1)]
        errors = [[v for i, v in record.image_error.items() if i % 2 == half] for half in (0, 1)]
        yield (
            f"{result.size}", contestant.name, *(three_digits(median(half)) if half else "-" for half in halves),
            *(f"{median(half):.1e} / {max(half):.1e}" if half else "-" for half in errors),
        )  # fmt: skip


_PARALLEL = (
    "Images per second of a batch: `reconstruct` on one thread and on two in one process, and bare processes of one "
    "thread each, one alone and two at the same time together. The last is what the machine has to give."
)
_PARALLEL_HEADER = (
    "Size", "Method", "One thread", "Two threads", "Ratio", "Aim", "One process", "Two processes", "Ratio",
)  # fmt: skip


def _parallel_rows(result: Result) -> Iterable[Sequence[str]]:
    for name, found in result.parallel.items():
        yield (
            f"{result.size}", name, three_digits(found.one_thread), three_digits(found.two_threads),
            f"{found.two_threads / found.one_thread:.2f}", f">= {THREADS_AIM}", three_digits(found.one_process),
            three_digits(found.two_processes), f"{found.two_processes / found.one_process:.2f}",
        )  # fmt: skip


_MEMORY = (
    "Growth of a fresh process's resident set at its peak, native buffers included: for its first image, with the "
    f"spectra and plans that it keeps for that size, and for each of {FURTHER} further images that are solved with it "
    f"in one batch. SPORCO takes one image at a time and ran {MEMORY_ITERATIONS} iterations for this."
)
_MEMORY_HEADER = ("Size", "Method", "First image, MB", "Further image, MB")


def _memory_rows(result: Result) -> Iterable[Sequence[str]]:
    for contestant, memory in zip(result.contestants, result.memory, strict=True):
        further = "-" if memory.further is None else f"{memory.further / 1e6:.1f}"
        yield f"{result.size}", contestant.name, f"{memory.first / 1e6:.1f}", further
