"""What the strata are worth, as Markdown. Sentences say what was measured; numbers say the rest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from benchmarks.common.pages import measured_on, table, three_digits
from benchmarks.strata.attacks import Attacked
from benchmarks.strata.autoencoder import ROUNDS, SIGMA, Denoising
from benchmarks.strata.page_projection import projection_blocks
from benchmarks.strata.page_routing import distance_blocks, routing_blocks, share
from benchmarks.strata.projection import Outcome
from benchmarks.strata.routing import Assignment, Decision, Distances
from benchmarks.strata.routing_speed import Speed
from stl_ray.report.names import attack_label
from stl_ray.space import QuasiNaturalSpace, Router
from stl_ray.store.layout import CLEAN


@dataclass(frozen=True)
class Result:
    """Everything measured; of what goes by the name of a set, the clean one is first.

    Attributes:
        space: that was measured.
        router: its router.
        architecture: of the vanilla classifier.
        size: of the images, in pixels.
        attacks: the attacked sets.
        assignments: by rising k, the nearest centroid last.
        decision: about the default k.
        distances: of latents.
        routed: (N,) clusters by the space's own vote.
        outcomes: without a defense first.
        denoising: of the autoencoder.
        speeds: of routing, by its parts.
    """

    space: QuasiNaturalSpace
    router: Router
    architecture: str
    size: int
    attacks: Mapping[str, Attacked]
    assignments: Sequence[Assignment]
    decision: Decision
    distances: Distances
    routed: Mapping[str, Tensor]
    outcomes: Sequence[Outcome]
    denoising: Denoising
    speeds: Mapping[str, Speed]


def report(result: Result, command: str, seconds: float, figure: str | None) -> str:
    """The whole page."""
    images = len(result.routed[CLEAN])
    blocks = [
        "# What the strata are worth, on CIFAR-10",
        f"    {command}",
        _setting(result, images, seconds),
        "## Attacks",
        "Crafted on the vanilla classifier; dissimilarities are of the stored 8-bit images, each held to the budget.",
        table(("Attack", "Budget", "Mean dissimilarity", "Ended"), _attack_rows(result.attacks)),
        *routing_blocks(result.assignments, result.decision),
        *distance_blocks(result.distances, figure),
        *projection_blocks(result.space, result.router, result.routed, result.outcomes),
        "## Autoencoder and speed",
        _denoising(result.denoising, result.router.autoencoder.side),
        f"Images per second, one batch of {images} on one thread: median of {ROUNDS} rounds in turns. Busy is CPU time over "
        "wall time: below 1.00 something else ran on the core.",
        table(("From", "Images/s", "Busy"), _speed_rows(result.speeds)),
        "## Not measured",
        _NOT_MEASURED,
    ]
    return "\n\n".join(blocks) + "\n"


_NOT_MEASURED = """\
- other fits: this is one space of one seed; how much another autoencoder, clustering or learning would change of it
- classifiers retrained on T(x), and other classifiers
- a universal dictionary of more filters or from more training images than the space's
- attacks that know of the projection or aim at the router: nothing here is a claim of robustness
- verdicts at other k, numbers of clusters or lambdas than the space's; other sizes of images; other data"""


def _setting(result: Result, images: int, seconds: float) -> str:
    space, router = result.space, result.router
    filters, _, side, _ = space.universal_dictionary.filters.shape
    references, coordinates = router.clusters.latents.shape
    recorded = (("dataset", "dataset"), ("images", "training images"), ("seed", "seed"))
    fitted = ", ".join(f"{words} {space.provenance[key]}" for key, words in recorded if key in space.provenance)
    return (
        f"{measured_on(seconds)} One process, one thread. {images} random CIFAR-10 test images of {result.size} px; vanilla "
        f"{result.architecture}. Space {space.digest[:12]} ({fitted or 'without a record of its fit'}): "
        f"{len(space.dictionaries)} clusters, {references} reference latents of {coordinates} coordinates, k = "
        f"{router.neighbours}; K = {filters}, S = {side}, lambda {space.lmbda:g}."
    )


def _attack_rows(attacks: Mapping[str, Attacked]) -> Iterable[Sequence[str]]:
    for name, attacked in attacks.items():
        ended = ", ".join(f"{count} {status}" for status, count in sorted(attacked.statuses.items()))
        yield attack_label(name), f"{attacked.budget:g}", f"{float(attacked.dissimilarity.mean()):.4f}", ended


def _denoising(found: Denoising, side: int) -> str:
    return (
        f"PSNR against the clean {side} x {side} thumbnail, mean (5 % to 95 % quantile) over the test images, Gaussian noise "
        f"of sigma {SIGMA:g} clipped to [0, 1]: noisy {_spread(found.noisy)} dB, denoised {_spread(found.denoised)} dB. The "
        f"denoised one is nearer to the clean one in {share(found.denoised > found.noisy)} % of the images."
    )


def _spread(values: Tensor) -> str:
    low, high = torch.quantile(values, torch.tensor((0.05, 0.95), dtype=values.dtype)).tolist()
    return f"{float(values.mean()):.2f} ({low:.2f} to {high:.2f})"


def _speed_rows(speeds: Mapping[str, Speed]) -> Iterable[Sequence[str]]:
    for name, speed in speeds.items():
        yield name, three_digits(median(speed.rates)), f"{median(speed.busy):.2f}"
