"""Seconds of every attack for 64 images, beside Foolbox, torchattacks and ART.

    python -m benchmarks.attacks --output benchmarks/results/attacks.md

One thread, the same network (CIFAR-10 ResNet-20), the same images, all classified rightly, and the same budget for all.
Every contestant has a process of its own, for what one leaves of the allocator's state speeds or slows another; they take
turns, the round is the seed, and the time of each has one look at what it found, which ours has in any case. The times are
CPU seconds, so that other work on the machine counts little. Success, and for minimum-norm attacks the mean L2, are
measured here, over all rounds. A contestant is correct where it is nowhere over the budget and misses at most one image that
another finds (minimum-norm: and its mean L2 is at most 3 % above the least); the ratio is ours to the fastest correct
peer's. Run it from the repository's root; it needs the shared CIFAR-10 images and weights, and the `peers` extra.
"""

import argparse
import statistics
import sys
import time

from benchmarks.attacks.peers import Match, matches
from benchmarks.attacks.race import OURS, Entry, correct, load, race
from benchmarks.common.command import command_parser
from benchmarks.common.pages import command_line, measured_on, publish
from benchmarks.common.progress import Progress
from stl_ray.runtime.concurrency import bind


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    bind(1)
    progress, start = Progress(), time.monotonic()
    results = []
    for match in matches(load(options.data, 1)[0]):
        if not options.only or match.name in options.only:
            results.append((match, race(match, (options.data, options.images), options.rounds, progress)))
    page = _page(results, options.images, command_line("benchmarks.attacks", given), time.monotonic() - start)
    publish(page, options.output)
    return 0


def _page(results: list[tuple[Match, dict[str, Entry]]], images: int, command: str, seconds: float) -> str:
    rows, ratios = [], []
    for match, entries in results:
        able = correct(match, entries, images)
        peers = [name for name in able if name != OURS]
        fastest = min(peers, key=lambda name: statistics.median(entries[name].seconds)) if peers else None
        for name, entry in entries.items():
            norm = f"{entry.l2:.4f}" if match.minimum_norm else ""
            ratio = ""
            if name == OURS and fastest is not None:
                own = [a / b for a, b in zip(entry.seconds, entries[fastest].seconds, strict=True)]
                ratio = f"{statistics.median(own):.2f} ({fastest})"
                ratios.append(statistics.median(own))
            verdict = "yes" if name in able else "no"
            rows.append(
                f"| {match.name} ({match.setting}) | {name} | {statistics.median(entry.seconds):.2f} | "
                f"{entry.success:.3f} | {norm} | {verdict} | {ratio} |"
            )
    worst = f"At most {max(ratios):.2f} times the fastest correct peer." if ratios else ""
    return "\n".join(
        [
            "# Attacks beside their peers",
            "",
            f"`{command}`",
            "",
            f"{measured_on(seconds)} {images} CIFAR-10 test images that ResNet-20 has right, float32 results, one thread, a "
            "process for each contestant. CPU seconds, median of the rounds. Correct: within the budget, at most one image short of the best, and for "
            "minimum-norm attacks a mean L2 of at most 3 % over the least.",
            "",
            "| Attack | Who | CPU s | Success | Mean L2 | Correct | Ours over the fastest correct peer |",
            "| --- | --- | ---: | ---: | ---: | --- | ---: |",
            *rows,
            "",
            worst,
            "",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.attacks", __doc__, data="with cifar10/ and weights/ (../shared/data)", needs_data=True
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="times that every contestant runs")
    parser.add_argument("--only", action="append", help="an attack's name as in the page; may be given again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
