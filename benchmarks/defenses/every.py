"""Every defense of the registry that changes images, and what it comes from where that runs here."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from benchmarks.common.images import load_images
from benchmarks.defenses.measure import Contestant, Timing, take_turns
from benchmarks.defenses.needs import OPTIONS, Needs
from benchmarks.defenses.originals import ORIGINALS
from benchmarks.defenses.page import Comparison
from stl_ray.defenses import DEFENSES, Transformation, make_defense
from stl_ray.defenses.detector import Detecting
from stl_ray.defenses.undefended import Undefended
from stl_ray.errors import StlRayError

BATCHES = {32: 64, 224: 16}
"""Images of a batch; fewer of a slow defense."""

FEWEST = 16
"""Images of a batch at least, as many as networks take at once: fewer would take as long."""

CALL_SECONDS = 0.3
"""As long as a call should take at most, where the fewest images take less."""

SLOW, SLOWEST = 2.0, 20.0
"""Seconds of the first call from which there is one round, and from which it is the measurement."""

LIMIT = 10.0
"""Seconds of an image, by the time at a smaller size, from which it is left out."""

_TEXT = (
    "`purify` of a batch in memory, with the options' defaults; beside it the formulation that the defense comes from, where one "
    "runs here, which takes one image at a time. What storing the images takes is not in it. {needs}. "
    "Not here: {left}."
)


def compare(
    names: Sequence[str], sizes: list[int], rounds: int, data: Path | None, images: int | None, *, small: bool,
    tell: Callable[[str], object],
) -> Comparison:  # fmt: skip
    """Measure at every size.

    Args:
        names: of the registry.
        sizes: pixels.
        rounds: of turns.
        data: folder of images; None: photographs of scikit-image.
        images: of a batch; None: `BATCHES`.
        small: artifacts for a look only.
        tell: takes what is at work.
    """
    needs = Needs(data, small=small)
    timings: dict[int, list[Timing]] = {}
    sources, left = [], {}
    for size in sizes:
        count = images or BATCHES.get(size, max(1, 64 * 32 * 32 // size**2))
        loaded = load_images(size, 2 * count, data)
        taken: list[Timing] = []
        for name in names:
            tell(f"{name} at {size} pixels")
            try:
                _require_time(name, size, timings)
                taken += _timings(name, loaded.pixels[::2].contiguous(), needs, rounds)
            except (StlRayError, _NotMeasured) as error:
                left[name] = str(error)
        timings[size] = taken
        sources.append(f"{size} px: {loaded.source}, {count} in a batch, fewer of a slow defense")
    text = _TEXT.format(needs=needs.text, left=_listed(left.items()) or "none")
    return Comparison("Every defense", text, "; ".join(sources), timings)


class _NotMeasured(Exception):
    """Why there is no row."""


def _require_time(name: str, size: int, timings: Mapping[int, Sequence[Timing]]) -> None:
    for smaller, measured in timings.items():
        for timing in measured:
            seconds = timing.seconds * (size / smaller) ** 2
            if timing.contestant.name == name and seconds > LIMIT:
                raise _NotMeasured(f"at {size} px, where an image would take some {seconds:.0f} s by its pixels")


def _timings(name: str, pixels: Tensor, needs: Needs, rounds: int) -> list[Timing]:
    if not issubclass(DEFENSES[name].defense, Transformation | Detecting):
        raise _NotMeasured("costs its views, and networks of its own")
    defense = make_defense(name, OPTIONS.get(name, {}), needs.of(name, pixels.shape[-1]))
    (view,) = defense.views
    if isinstance(view, Undefended):
        raise _NotMeasured("changes no image")
    probe, seeds = pixels[:FEWEST], range(len(pixels))
    seconds = _seconds(lambda: view.purify(probe, seeds=seeds[: len(probe)]))
    if seconds > SLOWEST:
        return [Timing(Contestant(name, len(probe), lambda: None, ""), seconds / len(probe))]
    if seconds <= SLOW:  # the first call may have more to do
        seconds = _seconds(lambda: view.purify(probe, seeds=seeds[: len(probe)]))
    batch = pixels[: max(FEWEST, int(CALL_SECONDS / max(seconds / len(probe), 1e-9)))]
    contestants, original = [], None
    if name in ORIGINALS:
        original = f"{name}, by {ORIGINALS[name].by}"
        run, done = ORIGINALS[name].prepare(view, batch)
        contestants.append(Contestant(original, done, run, ""))
    ours = Contestant(name, len(batch), lambda: view.purify(batch, seeds=seeds[: len(batch)]), "", original)
    return take_turns([ours, *contestants], 1 if seconds > SLOW else rounds)


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _listed(left: Iterable[tuple[str, str]]) -> str:
    reasons: dict[str, list[str]] = {}
    for name, reason in left:
        reasons.setdefault(reason, []).append(f"`{name}`")
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
