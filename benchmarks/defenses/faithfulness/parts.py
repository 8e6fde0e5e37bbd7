"""The tables: images, classifier, attack sets, rows, and how many images a slow row gets.

Attacks are crafted on the classifier alone, which is what the paper's tables appear to be. The minimum-norm ones are enlarged to
their budget, as the figures behind the names of the paper's columns say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common.images import LMBDA, authors_file
from benchmarks.defenses.faithfulness.rows import ROWS

CW = {"binary_search_steps": 6, "steps": 60, "step_size": 0.05, "initial_c": 0.01}
"""Fewer and longer steps than published: what is found is enlarged to the budget anyway."""

_SHORT_CW = {"binary_search_steps": 4, "steps": 15, "step_size": 0.1, "initial_c": 0.1}
"""For networks that take 40 times as long."""

ATTACKS: Sequence[Mapping[str, Any]] = (
    {"name": "fgsm-0.08", "attack": "fgsm", "dissimilarity": 0.08},
    {"name": "fgsm-0.04", "attack": "fgsm", "dissimilarity": 0.04},
    {"name": "bim-0.03", "attack": "bim", "dissimilarity": 0.03},
    {"name": "deepfool-0.03", "attack": "deepfool", "dissimilarity": 0.03, "options": {"sized": "budget"}},
    {"name": "cw-0.03", "attack": "cw", "dissimilarity": 0.03, "options": {"sized": "budget", **CW}},
)
"""In the order of the paper's columns."""

LINF = 8
"""Of Table 4, in levels of 255: its 0.031."""

TIERS: Sequence[Mapping[str, Any]] = (
    {"name": "bpda-pgd", "tier": "T3", "attack": "pgd", "options": {"steps": 50}},
    {"name": "exact-pgd", "tier": "T4", "attack": "pgd", "options": {"steps": 50}},
)

_LONG = ("crop-ens", "diffusion", "thermometer")
"""Rows at 32 px that have a part of their own, with fewer images: a network is trained, or an image takes seconds."""

_ON_CIFAR = tuple(name for name in ROWS if name not in ("sap", "lid", *_LONG))

_ON_PHOTOGRAPHS = (
    "jpeg", "median-filter", "resize-pad", "wavelet", "tvm", "pd-ens", "stl", "stl-cluster", "quilting", "crops", "d3-10k-5",
    "crop-ens", "tvm-renormalised", "tvm-tighter",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One table.

    Attributes:
        title: of its section.
        paper: the paper's table; None: Table 4.
        images: of the test split at most; `slow` has rows that get fewer.
        folder: of the shared data.
        size: pixels; None: as they are.
        classifier: the entry of `classifiers`; its weights are relative to the shared data.
        space: the entry of `spaces`, likewise.
        fit: name of the root with what is fitted, which parts on the same training images share.
        rows: names of `ROWS`.
        attacks: sets.
        tiers: attacks that know of the defense.
    """

    title: str
    paper: str | None
    images: int
    folder: str
    classifier: Mapping[str, Any]
    fit: str
    rows: Sequence[str]
    slow: Mapping[str, int] = field(default_factory=dict)
    size: int | None = None
    space: Mapping[str, Any] = field(default_factory=dict)
    attacks: Sequence[Mapping[str, Any]] = ATTACKS
    tiers: Sequence[Mapping[str, Any]] = ()


_SPACE = {"candidates": [], "autoencoder": {"epochs": 3}, "dictionary": {"images": 500, "holdout": 50, "lmbda": LMBDA}}
"""Four clusters, 64 filters of 8 x 8; from fewer images than by default, for the time that it takes."""


def _cifar(network: str, weights: str) -> dict[str, Any]:
    return {"name": network, "architecture": f"cifar_{network}", "weights": f"weights/{weights}.safetensors"}


_RESNET20, _RESNET56 = (_cifar(f"resnet{depth}", f"cifar10_resnet{depth}") for depth in (20, 56))

_TEN = {"name": "mobilenet", "architecture": "benchmarks.common.ten_classes:ten_classes"}


def _ten_classes(size: int, paper: str, *, images: int, learned: int, slow: Mapping[str, int]) -> Part:
    """Ten ImageNet classes at a size; the space has dictionaries of `learned` images each."""
    space = {**_SPACE, "autoencoder": {"epochs": 30}, "dictionary": {"images": learned, "holdout": 20, "lmbda": LMBDA}}
    return Part(
        f"Ten ImageNet classes at {size} px, vanilla MobileNetV2",
        paper,
        images,
        "imagenet10",
        _TEN,
        f"imagenet10-{size}",
        rows=tuple(name for name in _ON_PHOTOGRAPHS if name != "crop-ens" or name in slow),
        size=size,
        slow=slow,
        space=space,
        attacks=(*ATTACKS[:4], {**ATTACKS[4], "options": {"sized": "budget", **_SHORT_CW}}),
    )


PARTS = {
    "cifar10-resnet20": Part(
        "CIFAR-10 at 32 px, vanilla ResNet-20",
        "5",
        1000,
        "cifar10",
        _RESNET20,
        "cifar10",
        rows=_ON_CIFAR,
        space=_SPACE,
    ),
    "cifar10-resnet20-found": Part(
        "CIFAR-10 at 32 px, vanilla ResNet-20, minimum-norm attacks as they are found",
        "5",
        200,
        "cifar10",
        _RESNET20,
        "cifar10",
        rows=("jpeg", "stl", "magnet", "pixel-defend"),
        space=_SPACE,
        attacks=tuple({**attack, "options": {**attack["options"], "sized": "found"}} for attack in ATTACKS[3:]),
    ),
    "cifar10-resnet20-long": Part(
        "CIFAR-10 at 32 px, vanilla ResNet-20, rows that take long",
        "5",
        300,
        "cifar10",
        _RESNET20,
        "cifar10",
        rows=("stl", *_LONG),
        slow={"crop-ens": 100},
        space=_SPACE,
    ),
    "cifar10-resnet56": Part(
        "CIFAR-10 at 32 px, vanilla ResNet-56",
        "5",
        1000,
        "cifar10",
        _RESNET56,
        "cifar10",
        rows=_ON_CIFAR,
        space=_SPACE,
    ),
    "bpda": Part(
        "CIFAR-10 at 32 px, vanilla ResNet-20, attacks that know of the defense",
        None,
        500,
        "cifar10",
        _RESNET20,
        "cifar10",
        rows=("stl", "stl-cluster", "magnet", "pixel-defend", "sap", "lid", "thermometer"),
        slow={"sap": 100, "pixel-defend": 100, "lid": 100},
        space=_SPACE,
        attacks=({"name": "fgsm-linf", "attack": "fgsm", "linf": LINF},),
        tiers=TIERS,
    ),
    "imagenet10-64": _ten_classes(64, "6a", images=200, learned=100, slow={"crops": 100, "crop-ens": 20}),
    "imagenet10-128": _ten_classes(128, "6b", images=50, learned=40, slow={"crop-ens": 10}),
    "imagenet": Part(
        "ImageNet at 224 px, vanilla compressed ResNet-50",
        "7",
        40,
        "imagenet10",
        {
            "name": "resnet50",
            "architecture": "torchvision:resnet50",
            "weights": "weights/imagenet_resnet50_pqf.safetensors",
            "classes": "imagenet",
        },
        "imagenet10-224",
        rows=("jpeg", "tvm", "pd-ens", "stl", "quilting", "tvm-tighter"),
        size=224,
        space={"load": str(authors_file(Path(), "basis_224"))},
        attacks=ATTACKS[:4],
    ),
}
"""By name."""
