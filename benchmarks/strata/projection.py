"""What each choice of dictionary does to images and to verdicts: the stratum's, the universal one, and controls.

Sets of images go by name, the clean ones first; row i is the same image in each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common.heldout import HoldoutScore
from benchmarks.common.images import LMBDA, authors_file
from stl_ray.csc import Dictionary, SolveStatus
from stl_ray.images import quantize
from stl_ray.metrics import psnr
from stl_ray.models import Victim, predict
from stl_ray.seeding import seed_of
from stl_ray.space import QuasiNaturalSpace
from stl_ray.statistics import Interval, mcnemar, paired_difference
from stl_ray.store.layout import CLEAN

NONE, UNIVERSAL, CLUSTER, OTHER = "no defense", "universal", "cluster", "another cluster's"

_SEED = 0


@dataclass(frozen=True)
class Choice:
    """A choice of dictionaries.

    Attributes:
        name: NONE, UNIVERSAL, CLUSTER or OTHER, or a dictionary of the authors'.
        space: with the dictionaries.
        clusters: (N,) int64 of every image, by the name of the set.
    """

    name: str
    space: QuasiNaturalSpace
    clusters: Mapping[str, Tensor]


@dataclass(frozen=True)
class Outcome:
    """What became of the images.

    Attributes:
        name: of the choice.
        right: (N,) bool, images whose verdict is their label, by the name of the set.
        projected: how T does on the clean images; None without a defense.
    """

    name: str
    right: Mapping[str, Tensor]
    projected: "Projected | None" = None


@dataclass(frozen=True)
class Projected:
    """T on the clean images.

    Attributes:
        filters: K.
        judgement: at the reference tier.
        psnr: dB, mean over the images, of T(x) in 8 bits against x.
        unfinished: solves of all sets, at the default tier, that ended without converging.
    """

    filters: int
    judgement: HoldoutScore
    psnr: float
    unfinished: int


def choices(
    space: QuasiNaturalSpace, routed: Mapping[str, Tensor], ids: Sequence[str], data: Path | None
) -> list[Choice]:
    """The universal dictionary, the stratum's, another stratum's at random, and the authors' where `data` has it.

    Args:
        space: of at least two strata.
        routed: (N,) cluster of every image, by the name of the set.
        ids: of the images, which decide what the other stratum is.
        data: folder with reference/dictionaries.
    """
    none = {name: torch.zeros_like(clusters) for name, clusters in routed.items()}
    others = {name: another(clusters, ids, len(space.dictionaries)) for name, clusters in routed.items()}
    found = [
        Choice(UNIVERSAL, space.universal(), none),
        Choice(CLUSTER, space, routed),
        Choice(OTHER, space, others),
    ]
    theirs = None if data is None else authors_file(data, "basis_cifar")
    if theirs is not None and theirs.is_file():
        published = QuasiNaturalSpace.from_dictionary(Dictionary.from_reference(theirs, LMBDA), space.lmbda)
        found.append(Choice("the authors' basis_cifar", published, none))
    return found


def another(clusters: Tensor, ids: Sequence[str], count: int) -> Tensor:
    """For every image (N,) another of `count` clusters than its own, drawn by its id."""
    steps = [1 + seed_of(_SEED, name, "another cluster") % (count - 1) for name in ids]
    return (clusters + torch.tensor(steps)) % count


def undefended(victim: Victim, sets: Mapping[str, Tensor], labels: Tensor) -> Outcome:
    """The verdicts on stored images as they are."""
    return Outcome(NONE, {name: predict(victim, images) == labels for name, images in sets.items()})


def defended(victim: Victim, choice: Choice, sets: Mapping[str, Tensor], labels: Tensor) -> Outcome:
    """The verdicts of the deployed pipeline, classifier(q8(T(x))), and how T does on the clean images."""
    projections = {name: choice.space.project(images, clusters=choice.clusters[name]) for name, images in sets.items()}
    stored = {name: quantize(projection.images) for name, projection in projections.items()}
    projected = Projected(
        len(choice.space.universal_dictionary.filters),
        judge(choice, sets[CLEAN]),
        float(psnr(stored[CLEAN], sets[CLEAN]).double().mean()),
        sum(int((projection.status != SolveStatus.CONVERGED).sum()) for projection in projections.values()),
    )
    return Outcome(choice.name, {name: predict(victim, images) == labels for name, images in stored.items()}, projected)


def judge(choice: Choice, images: Tensor) -> HoldoutScore:
    """The objective F of the projection of clean images (N, C, H, W), at the reference tier."""
    raw, codes = choice.space.reconstruct(images, choice.clusters[CLEAN], "reference", "auto", None)
    coefficients = codes.coefficients.coalesce()
    l1 = torch.bincount(coefficients.indices()[0], coefficients.values().double().abs(), minlength=len(images))
    # The residual of the high band is that of the image, x - T(x) = high - D z.
    error = (images.double() - raw.double()).square().sum((1, 2, 3))
    decibels = -10 * log10(float(error.sum()) / images.numel())
    return HoldoutScore(error / 2 + choice.space.lmbda * l1, float(codes.sparsity.mean()), decibels)


@dataclass(frozen=True)
class Comparison:
    """Two choices on the same images of one set.

    Attributes:
        difference: accuracy of the first minus that of the second.
        only_first: images that only the first has right.
        only_second: images that only the second has right.
        p: exact McNemar.
    """

    difference: Interval
    only_first: int
    only_second: int
    p: float


def compare(first: Tensor, second: Tensor) -> Comparison:
    """From (N,) bool each: which images are right."""
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    difference = paired_difference(both, only_first, only_second, neither)
    return Comparison(difference, only_first, only_second, mcnemar(only_first, only_second))
