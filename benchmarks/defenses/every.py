"""Every defense of the registry that turns images into images, and what it comes from where that runs here."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from torch import Tensor

from benchmarks.common.images import load_images
from benchmarks.defenses.measure import Contestant, Timing, take_turns
from benchmarks.defenses.needs import OPTIONS, Needs
from benchmarks.defenses.originals import ORIGINALS
from benchmarks.defenses.page import Comparison
from stl_ray.defenses import DEFENSES, Transformation, make_defense
from stl_ray.defenses.undefended import Undefended
from stl_ray.errors import StlRayError

BATCHES = {32: 64, 224: 8}
"""Images of a batch; fewer of a slow defense."""

CALL_SECONDS = 0.3
"""As long as a call should take at most, where an image takes less."""

SLOW = 2.0
"""Seconds of an image from which there is one round."""

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
    needs, timings, sources, left = Needs(data, small=small), {}, [], {}
    for size in sizes:
        count = images or BATCHES.get(size, max(1, 64 * 32 * 32 // size**2))
        loaded = load_images(size, 2 * count, data)
        taken: list[Timing] = []
        for name in names:
            tell(f"{name} at {size} pixels")
            try:
                taken += _timings(name, loaded.pixels[::2].contiguous(), needs, rounds)
            except (StlRayError, _NoTransformation) as error:
                left[name] = str(error)
        timings[size] = taken
        sources.append(f"{size} px: {loaded.source}, {count} in a batch, fewer of a slow defense")
    text = _TEXT.format(needs=needs.text, left=_listed(left.items()) or "none")
    return Comparison("Every defense", text, "; ".join(sources), timings)


class _NoTransformation(Exception):
    """There is nothing to purify."""


def _timings(name: str, pixels: Tensor, needs: Needs, rounds: int) -> list[Timing]:
    kind = DEFENSES[name].defense
    if issubclass(kind, Undefended):
        raise _NoTransformation("does nothing")
    if not issubclass(kind, Transformation):
        raise _NoTransformation("turns no image into an image: costs its views, and networks of its own")
    defense = make_defense(name, OPTIONS.get(name, {}), needs.of(name, pixels.shape[-1]))
    assert isinstance(defense, Transformation)
    seconds = _seconds(lambda: defense.purify(pixels[:1], seeds=[0]))
    if seconds <= SLOW:  # the first call may have more to do
        seconds = _seconds(lambda: defense.purify(pixels[:1], seeds=[0]))
    batch = pixels[: max(1, int(CALL_SECONDS / max(seconds, 1e-9)))]
    contestants = [Contestant(name, len(batch), lambda: defense.purify(batch, seeds=range(len(batch))), "")]
    if name in ORIGINALS:
        original = f"{name}, by {ORIGINALS[name].by}"
        run, done = ORIGINALS[name].prepare(defense, batch)
        contestants = [
            Contestant(name, len(batch), contestants[0].run, "", original),
            Contestant(original, done, run, ""),
        ]
    return take_turns(contestants, 1 if seconds > SLOW else rounds)


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _listed(left: Iterable[tuple[str, str]]) -> str:
    reasons: dict[str, list[str]] = {}
    for name, reason in left:
        reasons.setdefault(reason, []).append(f"`{name}`")
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
