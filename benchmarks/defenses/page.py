"""The measurements as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.common.pages import measured_on, table, three_digits
from benchmarks.defenses.measure import Timing

IMAGENET = 1_281_167
"""Training images."""


@dataclass(frozen=True)
class Comparison:
    """A defense beside its original.

    Attributes:
        title: of the section.
        text: what was compared and how.
        source: of the images, in words.
        timings: by size in pixels.
    """

    title: str
    text: str
    source: str
    timings: Mapping[int, Sequence[Timing]]


def report(comparisons: Sequence[Comparison], command: str, seconds: float) -> str:
    """The whole page."""
    blocks = [
        "# How fast defenses are",
        f"    {command}",
        f"{measured_on(seconds, ('torch', 'numpy', 'scikit-image'))} One process, one thread; CPU time, in turns, the median of "
        "the rounds. Ratios are to the original in the same run. The last column is what all training images of ImageNet "
        "would take on one core, at 224 pixels.",
    ]
    for comparison in comparisons:
        blocks += [f"## {comparison.title}", f"{comparison.text} {comparison.source}."]
        rows = [row for size, timings in comparison.timings.items() for row in _rows(size, timings)]
        said = [column for column in range(len(_HEADER)) if any(row[column] for row in rows)]
        blocks.append(table([_HEADER[c] for c in said], ([row[c] for c in said] for row in rows)))
    return "\n\n".join(blocks) + "\n"


_HEADER = ("Size", "Method", "ms per image", "Images/s per core", "Original / it", "Quality", "ImageNet, core hours")


def _rows(size: int, timings: Sequence[Timing]) -> Iterable[Sequence[str]]:
    seconds = {timing.contestant.name: timing.seconds for timing in timings}
    for timing in timings:
        original = timing.contestant.original
        yield (
            f"{size}",
            timing.contestant.name,
            three_digits(timing.seconds * 1e3),
            three_digits(1 / timing.seconds),
            f"{three_digits(seconds[original] / timing.seconds)} ({original})" if original else "",
            timing.contestant.quality,
            three_digits(timing.seconds * IMAGENET / 3600) if size == 224 else "",
        )
