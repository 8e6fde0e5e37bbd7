"""How much of STL's accuracy on CIFAR-10 is left when the attacker differentiates through it.

    python -m benchmarks.attacks.white_box --output benchmarks/results/white-box.md

ResNet-56 (not retrained) behind STL with the authors' CIFAR dictionary. The same attacks at the same budgets on the same
images, stored as float32, and crafted three ways: on the classifier alone (grey-box), through the defense with its
Jacobian taken for the identity (BPDA), and with its exact gradient. Verdicts are the deployed pipeline's, from cold
solves. Run it from the repository's root; it needs ../shared/data, or a folder like it.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common.command import command_parser
from benchmarks.common.images import LMBDA, authors_file
from benchmarks.common.networks import cifar10_network
from benchmarks.common.pages import command_line, measured_on, write
from benchmarks.common.progress import Progress
from benchmarks.common.stored_images import Stored, stored_images
from stl_ray.attacks import Budget, make_attack
from stl_ray.csc import Dictionary
from stl_ray.defenses import Defended, make_defense
from stl_ray.images import to_tensor
from stl_ray.models import Victim, predict
from stl_ray.runtime.concurrency import bind
from stl_ray.space import QuasiNaturalSpace
from stl_ray.statistics import mcnemar, paired_difference, wilson

BUDGETS = {
    "dissimilarity 0.015": Budget(size=0.015),
    "dissimilarity 0.03": Budget(size=0.03),
    "L_inf 0.031": Budget(kind="linf", size=0.031),
}

ATTACKS: dict[str, tuple[str, dict[str, int | float]]] = {
    "PGD-20": ("pgd", {"steps": 20}),
    "APGD-CE-40": ("apgd", {"steps": 40}),
}

WAYS = ("grey-box", "BPDA", "exact")

PART = 32
"""Images that are attacked between two lines of progress: a tile of the classifier."""


@dataclass(frozen=True)
class Row:
    """One attack at one budget, crafted in one way.

    Attributes:
        budget: its name.
        attack: its name.
        way: of WAYS.
        right: (N,) bool, the deployed pipeline's verdicts.
        over: the largest excess over the budget, as a share of it; negative: all are below.
        seconds: that crafting took.
    """

    budget: str
    attack: str
    way: str
    right: Tensor
    over: float
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """Attack, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    bind(1)
    progress, start = Progress(), time.monotonic()
    stored = stored_images("cifar10/test", options.images, options.data)
    images = to_tensor(stored.levels)
    victims = _victims(options.data)
    alone = predict(victims["grey-box"], images) == stored.labels
    clean = predict(victims["exact"], images) == stored.labels
    rows: list[Row] = []
    for row in _rows(victims, images, stored, options, progress):
        rows.append(row)
        if row.way != WAYS[-1]:
            continue
        page = _page(rows, alone, clean, command_line("benchmarks.attacks.white_box", given), time.monotonic() - start)
        if options.output is not None:  # an hour's work is not lost with the last of it
            write(page, options.output)
    print(page)
    return 0


def _victims(data: Path) -> dict[str, Victim]:
    classifier = cifar10_network("resnet56", data)
    dictionary = Dictionary.from_reference(authors_file(data, "basis_cifar"), LMBDA)
    space = QuasiNaturalSpace.from_dictionary(dictionary, LMBDA)
    defense = make_defense("stl", {}, {"space": space, "solver": "auto"})
    return {
        "grey-box": classifier,
        "BPDA": Defended(classifier, defense, "bpda"),
        "exact": Defended(classifier, defense, "exact"),
    }


def _rows(
    victims: Mapping[str, Victim], images: Tensor, stored: Stored, options: argparse.Namespace, progress: Progress
) -> Iterator[Row]:
    for attack in options.attacks:
        for name in options.budgets:
            for way in WAYS:
                start, right, over = time.process_time(), [], []
                for begin in range(0, len(images), PART):
                    progress.tell(f"{name}, {attack}, {way}: image {begin + 1} of {len(images)}", now=begin == 0)
                    part = slice(begin, begin + PART)
                    found = make_attack(*ATTACKS[attack])(
                        victims[way],
                        images[part],
                        stored.labels[part],
                        budget=BUDGETS[name],
                        ids=stored.ids[part],
                        seed=0,
                        store="f32",
                    )
                    right.append(predict(victims["exact"], found.images) == stored.labels[part])
                    size = found.linf if BUDGETS[name].kind == "linf" else found.dissimilarity
                    over.append(float(size.max()) / BUDGETS[name].size - 1)
                yield Row(name, attack, way, torch.cat(right), max(over), time.process_time() - start)


def _page(rows: list[Row], alone: Tensor, clean: Tensor, command: str, seconds: float) -> str:
    lines = [
        "# STL on CIFAR-10 when the attacker differentiates through it",
        "",
        f"`{command}`",
        "",
        f"{measured_on(seconds)} One process, one thread.",
        "",
        f"{len(clean)} random CIFAR-10 test images; ResNet-56 (He et al., 93.39 % on the whole test set, not retrained) behind "
        f"STL with the authors' CIFAR dictionary (64 filters of 8 x 8, lambda {LMBDA:g}, unclustered). Adversarial images are "
        "stored as float32 and measured as stored; the pipeline rounds them to 8 bits when they come in. Accuracy is the "
        "deployed pipeline's, from cold solves, with its 95 % Wilson interval. Grey-box rows are no claim of robustness.",
        "",
        f"Clean: {_share(alone)} without defense, {_share(clean)} behind STL.",
        "",
        f"| Budget | Attack | {' | '.join(WAYS)} | worst case |",
        f"| --- | --- | {' | '.join('---:' for _ in WAYS)} | ---: |",
    ]
    cells = {(row.budget, row.attack, row.way): row for row in rows}
    pairs = list(dict.fromkeys((row.budget, row.attack) for row in rows))
    for budget, attack in pairs:
        own = [cells[budget, attack, way].right for way in WAYS]
        worst = torch.stack([clean, *own]).all(0)
        lines.append(f"| {budget} | {attack} | {' | '.join(map(_share, own))} | {_share(worst)} |")
    lines += ["", "Worst case: an image counts only if it is right when clean and after every attack of its row.", ""]
    lines += [
        "Paired on the same images, accuracy under BPDA minus accuracy under the exact gradient:",
        "",
        "| Budget | Attack | difference [95 %] | p (McNemar) | falls to BPDA only | to exact only | CPU time, exact over BPDA |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for budget, attack in pairs:
        bpda, exact = cells[budget, attack, "BPDA"], cells[budget, attack, "exact"]
        both, first = int((bpda.right & exact.right).sum()), int((bpda.right & ~exact.right).sum())
        second, neither = int((~bpda.right & exact.right).sum()), int((~bpda.right & ~exact.right).sum())
        gap = paired_difference(both, first, second, neither)
        lines.append(
            f"| {budget} | {attack} | {gap.estimate:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] | "
            f"{mcnemar(first, second):.2g} | {second} | {first} | {exact.seconds / bpda.seconds:.2f} |"
        )
    lines += ["", f"Largest stored perturbation: {max(row.over for row in rows):+.1e} of its budget.", ""]
    return "\n".join(lines)


def _share(right: Tensor) -> str:
    interval = wilson(int(right.sum()), len(right))
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.attacks.white_box",
        __doc__,
        data="with cifar10/, weights/ and reference/ (../shared/data)",
        needs_data=True,
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    return parser


if __name__ == "__main__":
    sys.exit(main())
