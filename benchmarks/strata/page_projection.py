"""Stratified and universal dictionaries side by side, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.common.heldout import HoldoutScore, difference
from benchmarks.common.pages import table
from benchmarks.strata.projection import CLUSTER, NONE, OTHER, UNIVERSAL, Outcome, Projected, compare
from stl_ray.report.names import attack_label
from stl_ray.space import QuasiNaturalSpace, Router
from stl_ray.statistics import Interval, wilson
from stl_ray.store.layout import CLEAN

PAIRS = ((CLUSTER, UNIVERSAL), (CLUSTER, OTHER), (UNIVERSAL, NONE))
"""Choices whose verdicts are compared on the same images."""


def projection_blocks(
    space: QuasiNaturalSpace, router: Router, routed: Mapping[str, Tensor], outcomes: Sequence[Outcome]
) -> list[str]:
    """How they code, what the classifier says, and each stratum by itself."""
    by_name = {outcome.name: outcome for outcome in outcomes}
    defended = {name: outcome.projected for name, outcome in by_name.items() if outcome.projected is not None}
    unfinished = sum(projected.unfinished for projected in defended.values())
    return [
        "## Stratified beside universal: the projection",
        "Objective F: mean of 1/2 ||s - D z||^2 + lambda ||z||_1 over the clean test images, at the reference tier; "
        "differences are paired, image by image, in per cent of the universal dictionary's mean, with a 95 % interval over "
        "images; below zero images are coded better than by the universal one. Sparsity: share of the coefficients that are "
        "not zero. PSNR: of T(x) in 8 bits at the default tier against x, mean over the images. Cluster: the dictionary of "
        f"the stratum that the space's vote gives; {OTHER}: that of another stratum, drawn by the image's id. Of the solves "
        f"at the default tier, clean and attacked, {unfinished} ended without converging.",
        table(_PROJECTION_HEADER, _projection_rows(defended)),
        "## Stratified beside universal: verdicts",
        "Accuracy of the vanilla classifier on T(x) in 8 bits, T at the default tier, with 95 % Wilson intervals.",
        table(("Method", *(attack_label(name) for name in routed)), _accuracy_rows(outcomes)),
        "Differences of accuracy on the same images with Newcombe's 95 % interval, the images that only one of the two has "
        "right, and the exact McNemar p, not corrected for the number of rows.",
        table(_PAIRED_HEADER, _paired_rows(by_name)),
        "## The strata",
        "Differences of the objective from the universal dictionary's as above, over the test images of each stratum.",
        table(_STRATA_HEADER, _strata_rows(space, router, routed[CLEAN], defended)),
    ]


_PROJECTION_HEADER = ("Method", "Filters", "Objective", "Over universal, % (95 %)", "Sparsity, %", "PSNR, dB")


def _projection_rows(defended: Mapping[str, Projected]) -> Iterable[Sequence[str]]:
    base = defended[UNIVERSAL].judgement
    for name, projected in defended.items():
        judgement = projected.judgement
        yield (
            name, f"{projected.filters}", f"{judgement.objective:.4g}",
            "0" if name == UNIVERSAL else _signed(difference(judgement, base)), f"{100 * judgement.sparsity:.3f}",
            f"{projected.psnr:.2f}",
        )  # fmt: skip


def _accuracy_rows(outcomes: Sequence[Outcome]) -> Iterable[Sequence[str]]:
    for outcome in outcomes:
        found = (wilson(int(right.sum()), len(right)) for right in outcome.right.values())
        yield (outcome.name, *(f"{one.estimate:.3f} ({one.low:.3f} to {one.high:.3f})" for one in found))


_PAIRED_HEADER = ("Method", "Images", "Difference (95 %)", "Only the first", "Only the second", "p")


def _paired_rows(by_name: Mapping[str, Outcome]) -> Iterable[Sequence[str]]:
    for first, second in PAIRS:
        for name, right in by_name[first].right.items():
            found = compare(right, by_name[second].right[name])
            one = found.difference
            yield (
                f"{first} minus {second}", attack_label(name), f"{one.estimate:+.3f} ({one.low:+.3f} to {one.high:+.3f})",
                f"{found.only_first}", f"{found.only_second}", f"{found.p:.2g}",
            )  # fmt: skip


_STRATA_HEADER = (
    "Dictionary", "Training images", "Learned from", "Iterations", "Test images", "Cluster, % (95 %)",
    "Another cluster's, % (95 %)",
)  # fmt: skip


def _strata_rows(
    space: QuasiNaturalSpace, router: Router, clusters: Tensor, defended: Mapping[str, Projected]
) -> Iterable[Sequence[str]]:
    base, own, other = (defended[name].judgement for name in (UNIVERSAL, CLUSTER, OTHER))
    sizes = {UNIVERSAL: sum(router.clusters.sizes)}
    sizes |= {f"cluster_{cluster}": size for cluster, size in enumerate(router.clusters.sizes)}
    for number, (name, size) in enumerate(sizes.items(), start=-1):
        rows = torch.ones_like(clusters, dtype=torch.bool) if number < 0 else clusters == number
        learned = space.provenance.get("dictionaries", {}).get(name, {})
        compared = number >= 0 and bool(rows.any())
        yield (
            name, f"{size}", *(f"{learned.get(key, '-')}" for key in ("images", "iterations")), f"{int(rows.sum())}",
            *(_signed(difference(_of(one, rows), _of(base, rows))) if compared else "-" for one in (own, other)),
        )  # fmt: skip


def _of(judgement: HoldoutScore, rows: Tensor) -> HoldoutScore:
    """With the objectives of some images only."""
    return HoldoutScore(judgement.objectives[rows], judgement.sparsity, judgement.psnr)


def _signed(found: Interval) -> str:
    return f"{found.estimate:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
