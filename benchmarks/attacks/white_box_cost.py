"""What the exact gradient of STL costs an attack, beside BPDA at equal steps.

    python -m benchmarks.attacks.white_box_cost --output benchmarks/results/white-box-cost.md

The loop is PGD's: a gradient, a normalised step, back into the ball. Every mode attacks the same images with as many
steps, in turns, in one process on one thread; a ratio is of a mode's time to BPDA's as the package runs it, its solves
warm too. Run it from the repository's root; it needs the CIFAR-10 and ImageNet images and the authors' dictionaries.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.common.command import command_parser
from benchmarks.common.images import LMBDA, load_images
from benchmarks.common.pages import command_line, measured_on, publish
from benchmarks.common.progress import Progress
from stl_ray.attacks.geometry import projected, rescaled
from stl_ray.config import Gradient
from stl_ray.csc import Dictionary
from stl_ray.defenses import Defended, make_defense
from stl_ray.metrics import l2_norm
from stl_ray.models import Classifier, Victim, build_classifier, load_weights
from stl_ray.runtime.concurrency import bind
from stl_ray.space import QuasiNaturalSpace

STEPS = 20
DISSIMILARITY = 0.015
AIM = 2.0
"""Most that the exact gradient may cost, times BPDA."""

MODES: dict[str, tuple[Gradient, bool]] = {
    "exact": ("exact", True),
    "BPDA": ("bpda", True),
    "exact, every solve cold": ("exact", False),
    "BPDA, every solve cold": ("bpda", False),
}
"""Gradient, and whether solves start from the previous iterate's codes."""


@dataclass(frozen=True)
class Case:
    """A network on images of one size; CPU seconds of every mode's rounds."""

    network: str
    size: int
    images: int
    seconds: dict[str, list[float]]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    bind(1)
    progress, start = Progress(), time.monotonic()
    cases = []
    for network, size, count in (
        ("none", 32, 64),
        ("cifar_resnet56", 32, 32),
        ("none", 224, 4),
        ("torchvision:resnet50", 224, 1),
    ):
        images = load_images(size, min(count, options.images), options.data)
        victims = _victims(network, size, images.dictionary, options.data)
        seconds = _race(victims, images.pixels, options, progress, f"{network} at {size}")
        cases.append(Case(network, size, len(images.pixels), seconds))
    page = _page(
        cases, options.steps, command_line("benchmarks.attacks.white_box_cost", given), time.monotonic() - start
    )
    publish(page, options.output)
    return 0


def _race(
    victims: dict[str, tuple[Defended, bool]],
    images: Tensor,
    options: argparse.Namespace,
    progress: Progress,
    where: str,
) -> dict[str, list[float]]:
    """CPU seconds of every mode in every round, after one step that is not counted."""
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    for turn in range(options.rounds + 1):
        for mode, (victim, warm) in victims.items():
            progress.tell(f"{where}: round {turn} of {options.rounds}, {mode}", now=turn == 0)
            start = time.process_time()
            attack(victim, images, options.steps if turn else 1, warm)
            if turn:
                seconds[mode].append(time.process_time() - start)
    return seconds


def attack(victim: Victim, images: Tensor, steps: int, warm: bool) -> Tensor:
    """PGD in the L2 ball of every image (B, 3, H, W) away from the classes it starts with."""
    loop = (
        victim.loop([str(index) for index in range(len(images))]) if warm and isinstance(victim, Defended) else victim
    )
    radius = DISSIMILARITY * l2_norm(images)
    labels = victim.logits(images).argmax(1)
    current = images
    for _ in range(steps):
        _, gradient = loop.logits_and_vjp(current, lambda logits: _cross_entropy(logits, labels))
        current = (images + projected(current - images + rescaled(gradient, 0.2 * radius), radius, "l2")).clamp(0, 1)
    return current


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.softmax(1) - nn.functional.one_hot(labels, logits.shape[1])


def _victims(network: str, size: int, dictionary: Dictionary, data: Path | None) -> dict[str, tuple[Defended, bool]]:
    defense = make_defense("stl", {}, {"space": QuasiNaturalSpace.from_dictionary(dictionary, LMBDA), "solver": "auto"})
    names = [str(index) for index in range(10)]
    classifier = _linear(size, names) if network == "none" else build_classifier(network, names, seed=0)
    weights = None if data is None else data / "weights" / f"cifar10_{network.removeprefix('cifar_')}.safetensors"
    if weights is not None and weights.is_file():
        load_weights(classifier, str(weights.absolute()))
    classifier.eval()
    return {mode: (Defended(classifier, defense, gradient), warm) for mode, (gradient, warm) in MODES.items()}


def _linear(size: int, names: list[str]) -> Classifier:
    """What costs next to nothing, so that the defense's own cost shows."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, len(names)))
    return Classifier(backbone, architecture="linear", class_names=names)


def _page(cases: list[Case], steps: int, command: str, seconds: float) -> str:
    rows, worst = [], 0.0
    for case in cases:
        for mode in MODES:
            per_step = 1e3 * statistics.median(case.seconds[mode]) / case.images / steps
            ratios = [own / other for own, other in zip(case.seconds[mode], case.seconds["BPDA"], strict=True)]
            ratio = statistics.median(ratios)
            worst = max(worst, ratio) if mode == "exact" else worst
            rows.append(
                f"| {case.network} | {case.size} | {case.images} | {mode} | {per_step:.2f} | "
                f"{ratio:.2f} [{min(ratios):.2f}, {max(ratios):.2f}] |"
            )
    return "\n".join(
        [
            "# What the exact gradient costs an attack",
            "",
            f"`{command}`",
            "",
            f"{measured_on(seconds)} One process, one thread. PGD of {steps} steps at dissimilarity {DISSIMILARITY} "
            "through STL (default tier, 30 CG steps), the authors' dictionaries, ResNet-50 with random weights (the time "
            'does not depend on them); "none" is a linear classifier, so that what is timed is the defense. A ratio is '
            "of CPU times of the same round: median [least, largest].",
            "",
            "| Network | Pixels | Images | Gradient | CPU ms per image and step | times BPDA |",
            "| --- | ---: | ---: | --- | ---: | ---: |",
            *rows,
            "",
            f"The exact gradient costs at most {worst:.2f} times BPDA at equal steps (aim: {AIM:g}).",
            "",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.attacks.white_box_cost", __doc__, data="folder of images (default: ../shared/data)"
    )
    parser.add_argument("--images", type=int, default=64, help="at most so many of 32 pixels (4 of 224)")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=3, help="times that every mode runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
