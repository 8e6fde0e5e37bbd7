"""Strength of the attacks beside Foolbox, torchattacks and ART: the same network, images and budgets.

    python -m benchmarks.attacks.parity --output benchmarks/results/attacks-parity.md

The network is CIFAR-10's ResNet-20 as trained elsewhere; the images are the first of the test split, float32 results. Each
row says what is asked of ours, as an inequality of two numbers that are printed: the same norm to four digits (DeepFool,
BIM), a mean norm that is no larger (C&W L2), a robust accuracy of at most one point over the strongest peer's (APGD,
Square), a larger fooling rate (universal vectors). Run it from the repository's root; it needs the shared CIFAR-10 images
and weights, Foolbox, torchattacks and ART.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.attacks.peers import Art, Foolbox, Run, Torchattacks, ours
from benchmarks.attacks.race import load
from benchmarks.common.command import command_parser
from benchmarks.common.pages import command_line, measured_on, table, write
from benchmarks.common.progress import Progress
from stl_ray.attacks import Budget, fooling_rate, make_attack
from stl_ray.attacks.bim import BasicIterative
from stl_ray.attacks.losses import cross_entropy
from stl_ray.attacks.problem import Problem
from stl_ray.metrics import l2_norm, linf
from stl_ray.models import Classifier, predict
from stl_ray.runtime.concurrency import bind

FREE = {"l2": Budget(kind="l2", size=50.0), "linf": Budget(kind="linf", size=1.0)}
BALLS = [Budget(kind="linf", size=8 / 255), Budget(kind="l2", size=0.5)]
SMALL_BALLS = [Budget(kind="linf", size=1 / 255), Budget(kind="l2", size=0.1)]


class Row(NamedTuple):
    """One comparison.

    Attributes:
        name: of the attack and its setting.
        measure: what the numbers are.
        own: ours.
        peers: theirs, by name.
        met: whether ours is what it must be.
    """

    name: str
    measure: str
    own: float
    peers: dict[str, float]
    met: bool


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked; 1 where a demand is not met."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    bind(1)
    progress, start = Progress(), time.monotonic()
    rows = []
    for row in comparisons(options, progress):
        progress.tell(f"{row.name}: {row.own:.4f}, {row.peers}", now=True)
        rows.append(row)
        # After every row, for the whole takes half an hour: what a run that is cut short found is not lost.
        page = _page(rows, options, command_line("benchmarks.attacks.parity", given), time.monotonic() - start)
        if options.output is not None:
            write(page, options.output)
    print(page)
    return 0 if all(row.met for row in rows) else 1


def comparisons(options: argparse.Namespace, progress: Progress) -> Iterator[Row]:
    """All of them, the cheap ones first."""
    classifier, images, labels = load(options.data, options.images, right=False)
    right = (predict(classifier, images) == labels).nonzero()[: options.near, 0]
    near = images[right], labels[right]
    yield from _bim(classifier, *near)
    yield from _deepfool(classifier, *near)
    yield from _universal(classifier, images)
    for budget in [*BALLS, *SMALL_BALLS]:
        yield _robust(f"APGD-CE, 20 steps, {_ball(budget)}", classifier, images, labels, 1, {
            "stl-ray": ours(classifier, "apgd", budget, steps=20),
            "torchattacks": Torchattacks(classifier).run(
                "APGD", norm=_norm(budget), eps=budget.size, steps=20, n_restarts=1
            ),
            "ART": Art(classifier).run("AutoProjectedGradientDescent", budget, max_iter=20, nb_random_init=1,
                                       eps_step=2 * budget.size, loss_type="cross_entropy"),
        })  # fmt: skip
    for budget in BALLS:
        progress.tell(f"Square, {_ball(budget)}", now=True)
        yield _robust(f"Square, {options.queries} queries, {_ball(budget)}", classifier, images, labels, options.seeds, {
            "stl-ray": ours(classifier, "square", budget, queries=options.queries),
            "torchattacks": Torchattacks(classifier).run("Square", norm=_norm(budget), eps=budget.size, n_restarts=1,
                                                         n_queries=options.queries, loss="margin"),
            "ART": Art(classifier).run("SquareAttack", budget, max_iter=options.queries, nb_restarts=1),
        })  # fmt: skip
    progress.tell("C&W L2", now=True)
    yield from _carlini_wagner(classifier, *near)


def _bim(classifier: Classifier, images: Tensor, labels: Tensor) -> Iterator[Row]:
    """The steps themselves, for the frame sizes ours to the budget afterwards.

    Foolbox works in float64: its cross-entropy loses the gradient of a confident answer in float32, which ours keeps.
    """
    for budget in (Budget(kind="l2", size=0.2), Budget(kind="linf", size=2 / 255)):
        method = {"l2": "L2BasicIterativeAttack", "linf": "LinfBasicIterativeAttack"}[budget.norm]
        peer = Foolbox(copy.deepcopy(classifier).double())
        run = peer.run(method, budget, steps=10, rel_stepsize=0.2, random_start=False)
        ids = [str(row) for row in range(len(images))]
        problem = Problem.of(classifier, images, labels, budget=budget, ids=ids, seed=0, store="f32")
        found = (images + problem.looped(BasicIterative().perturb)[0], run(images.double(), labels, 0))
        name = f"BIM, 10 steps, {_ball(budget)}"
        own, other = (_mean_norm(images, batch, budget) for batch in found)
        yield Row(name, "mean norm", own, {"Foolbox": other}, _four_digits(own, other))
        own, other = (float(cross_entropy(classifier.logits(batch.float()), labels).mean()) for batch in found)
        # To 3 digits: a sign that float32 turns over leads an image or two elsewhere.
        yield Row(name, "mean cross-entropy", own, {"Foolbox": other}, abs(own / other - 1) < 1e-3)


def _deepfool(classifier: Classifier, images: Tensor, labels: Tensor) -> Iterator[Row]:
    for norm, method in (("l2", "L2DeepFoolAttack"), ("linf", "LinfDeepFoolAttack")):
        budget = FREE[norm]
        peer = Foolbox(classifier).run(method, None)
        own, other = (
            _mean_norm(images, run(images, labels, 0), budget) for run in (ours(classifier, "deepfool", budget), peer)
        )
        name = f"DeepFool, 50 steps, {_norm(budget)}"
        yield Row(name, "mean norm", own, {"Foolbox": other}, _four_digits(own, other))


def _carlini_wagner(classifier: Classifier, images: Tensor, labels: Tensor) -> Iterator[Row]:
    own, other = (
        _mean_norm(images, run(images, labels, 0), FREE["l2"])
        for run in (
            ours(classifier, "cw", FREE["l2"], steps=100),
            Foolbox(classifier).run("L2CarliniWagnerAttack", None, steps=100),
        )
    )
    yield Row("C&W L2, 9 searches of 100 steps", "mean norm", own, {"Foolbox": other}, own <= other)


def _universal(classifier: Classifier, images: Tensor) -> Iterator[Row]:
    """Vectors of one norm, trained on the first 100 images and tried on the others."""
    training, held_out = images[:100], images[100:]
    radius = 0.08 * float(l2_norm(training).mean())
    other = fooling_rate(classifier, held_out, Art(classifier).universal(training, radius, seed=0))
    budget = Budget(kind="l2", size=radius)
    attacks: list[tuple[str, dict[str, Any]]] = [("uap", {"epochs": 1}), ("uap_gradient", {})]
    for name, settings in attacks:
        attack = make_attack(name, settings)
        own = fooling_rate(classifier, held_out, attack.train(classifier, training, budget=budget, seed=0))  # type: ignore[attr-defined]
        yield Row(f"`{name}`, L2 {radius:.2f}", "fooling rate", own, {"ART": other}, own > other)


def _robust(
    name: str, classifier: Classifier, images: Tensor, labels: Tensor, seeds: int, contestants: dict[str, Run]
) -> Row:
    """Robust accuracy, the mean over some seeds."""
    accuracy = {}
    for who, run in contestants.items():
        shares = [
            float((predict(classifier, run(images.clone(), labels.clone(), seed).float()) == labels).float().mean())
            for seed in range(seeds)
        ]
        accuracy[who] = statistics.mean(shares)
    own = accuracy.pop("stl-ray")
    return Row(name, "robust accuracy", own, accuracy, own <= min(accuracy.values()) + 0.01)


def _mean_norm(images: Tensor, found: Tensor, budget: Budget) -> float:
    change = found.double() - images.double()
    return float((l2_norm(change) if budget.norm == "l2" else linf(change, torch.zeros_like(change))).mean())


def _four_digits(own: float, other: float) -> bool:
    return abs(own / other - 1) < 1e-4


def _norm(budget: Budget) -> str:
    return {"linf": "Linf", "l2": "L2"}[budget.norm]


def _ball(budget: Budget) -> str:
    return f"L_inf {round(budget.size * 255)}/255" if budget.norm == "linf" else f"L2 {budget.size:g}"


def _page(rows: list[Row], options: argparse.Namespace, command: str, seconds: float) -> str:
    names = ["Foolbox", "torchattacks", "ART"]
    lines = [
        [row.name, row.measure, f"{row.own:.5f}", *(f"{row.peers[n]:.5f}" if n in row.peers else "" for n in names),
         "yes" if row.met else "no"]
        for row in rows
    ]  # fmt: skip
    return "\n".join(
        [
            "# Attacks as strong as their peers",
            "",
            f"`{command}`",
            "",
            f"{measured_on(seconds)} CIFAR-10's ResNet-20. APGD and Square: the first {options.images} test images, Square's "
            f"accuracies the mean of {options.seeds} seeds; universal vectors: trained on the first 100 of them and tried on "
            f"the others; the rest: the first {options.near} that the network has right. Met: DeepFool's mean norm and BIM's "
            "that of Foolbox to 4 digits (BIM's mean loss to 3; Foolbox's BIM is in float64, since its float32 cross-entropy "
            "loses the gradient of confident answers); C&W's not above Foolbox's; robust accuracy at most one "
            "point over the lowest of the peers'; fooling rate above ART's.",
            "",
            table(["Attack", "Measure", "stl-ray", *names, "Met"], lines),
            "",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.attacks.parity", __doc__, data="with cifar10/ and weights/ (../shared/data)", needs_data=True
    )
    parser.add_argument("--images", type=int, default=500, help="images for APGD, Square and universal vectors")
    parser.add_argument("--near", type=int, default=64, help="images for BIM, DeepFool and C&W")
    parser.add_argument("--queries", type=int, default=100, help="questions of Square")
    parser.add_argument("--seeds", type=int, default=3, help="runs of Square, whose means are compared")
    return parser


if __name__ == "__main__":
    sys.exit(main())
