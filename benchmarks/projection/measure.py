"""Times and errors of all contestants on the same images, in turns."""

import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor

from benchmarks.common.images import Images
from benchmarks.common.progress import Progress
from benchmarks.projection.contestants import Contestant, Outcome, best_method
from stl_ray.csc import reconstruct, split_bands

TURN_SECONDS = 0.02
MOST_RUNS = 5
"""A turn is repeated until it has lasted TURN_SECONDS, MOST_RUNS times at most; its time is the median of its runs."""

GAP = 1e-5
"""Certified relative duality gap of what counts as the optimum."""


@dataclass
class Record:
    """What one contestant did on the images of one size, by the image's index.

    Attributes:
        milliseconds: wall time.
        busy: CPU seconds over wall seconds; below 1 where something else ran on the core.
        image_error: ||T - T*|| / ||T*||, for the whole projected image.
        high_error: the same difference relative to ||T* - low||, the coded high band.
        objective_gap: (F - F*) / F*.
        endings: how many solves converged by their own rule, and how many ran out of iterations.
    """

    milliseconds: dict[int, float] = field(default_factory=dict)
    busy: dict[int, float] = field(default_factory=dict)
    image_error: dict[int, float] = field(default_factory=dict)
    high_error: dict[int, float] = field(default_factory=dict)
    objective_gap: dict[int, float] = field(default_factory=dict)
    endings: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Optimum:
    """The certified optimum of one image.

    Attributes:
        image: (3, H, W) float64, T*.
        low: (3, H, W) float64.
        objective: F*.
        slack: bound on ||T - T*|| / ||T*|| that the certificate proves: D z is 1-strongly convex in F.
    """

    image: Tensor
    low: Tensor
    objective: float
    slack: float


def measure_times(
    images: Images, contestants: list[Contestant], peer_images: int, cap: float, progress: Progress
) -> tuple[list[Record], list[dict[int, Outcome]]]:
    """Every contestant on every image, the first contestant on `peer_images` of them or until `cap` seconds are spent.

    Within an image the contestants take turns, and the one that begins changes from image to image.
    """
    records = [Record() for _ in contestants]
    outcomes: list[dict[int, Outcome]] = [{} for _ in contestants]
    for contestant in contestants:
        contestant.project(images.pixels[0])  # plans, spectra
    spent = 0.0
    for index, image in enumerate(images.pixels):
        for turn in range(len(contestants)):
            who = (index + turn) % len(contestants)
            if who == 0 and (index >= peer_images or spent > cap):
                continue
            outcome, seconds, busy = _turn(contestants[who], image)
            spent += seconds if who == 0 else 0
            records[who].milliseconds[index] = seconds * 1e3
            records[who].busy[index] = busy
            records[who].endings["converged" if outcome.converged else "out of iterations"] += 1
            outcomes[who][index] = outcome
            progress.tell(f"{image.shape[-1]} px: times, image {index + 1} of {len(images.pixels)}")
    return records, outcomes


def measure_split(images: Images) -> float:
    """Milliseconds of our Tikhonov split alone, of one image at a time: the median over the images."""
    times = []
    for image in images.pixels:
        start = time.perf_counter()
        split_bands(image[None])
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def _turn(contestant: Contestant, image: Tensor) -> tuple[Outcome, float, float]:
    """(outcome, seconds, CPU seconds over wall seconds)."""
    runs: list[float] = []
    cpu = time.process_time()
    while sum(runs) < TURN_SECONDS and len(runs) < MOST_RUNS:
        start = time.perf_counter()
        result = contestant.project(image)
        runs.append(time.perf_counter() - start)
    busy = (time.process_time() - cpu) / sum(runs)
    return contestant.read(result), statistics.median(runs), busy


def measure_errors(
    images: Images,
    lmbda: float,
    records: list[Record],
    outcomes: list[dict[int, Outcome]],
    exact_images: int,
    cap: float,
    progress: Progress,
) -> list[Optimum]:
    """Errors on the first `exact_images` images, or as many as have their optimum certified within `cap` seconds."""
    optima, start = [], time.monotonic()
    for index, image in enumerate(images.pixels[:exact_images]):
        if time.monotonic() - start > cap:
            break
        optimum = _optimum(image, images, lmbda)
        if optimum is None:
            continue
        optima.append(optimum)
        norm, high_norm = float(optimum.image.norm()), float((optimum.image - optimum.low).norm())
        for record, found in zip(records, outcomes, strict=True):
            if index in found:
                error = float((found[index].image.double() - optimum.image).norm())
                record.image_error[index] = error / norm
                record.high_error[index] = error / high_norm if high_norm else 0.0
                value = _objective(image, found[index].image, found[index].l1, lmbda)
                record.objective_gap[index] = value / optimum.objective - 1
        progress.tell(f"{image.shape[-1]} px: certified optimum {index + 1} of {exact_images}")
    return optima


def _optimum(image: Tensor, images: Images, lmbda: float) -> Optimum | None:
    """None where the certificate was not reached."""
    result = reconstruct(image[None], images.dictionary, lmbda, method=best_method(), accuracy="exact")
    gap = float(result.codes.gap[0])
    if not gap <= GAP:
        return None
    projected = result.images[0].double()
    l1 = float(result.codes.coefficients.coalesce().values().double().abs().sum())
    objective = _objective(image, projected, l1, lmbda)
    low = split_bands(image[None])[0][0].double()
    return Optimum(projected, low, objective, (2 * max(gap, 0.0) * objective) ** 0.5 / float(projected.norm()))


def _objective(image: Tensor, projected: Tensor, l1: float, lmbda: float) -> float:
    """F from T(x): the residual of the high band is that of the image, x - T(x) = high - D z."""
    return float((image.double() - projected.double()).square().sum()) / 2 + lmbda * l1
