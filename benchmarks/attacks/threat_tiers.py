"""What is left of no defense, JPEG and STL on CIFAR-10, threat tier by threat tier, and whether the checks believe it.

    python -m benchmarks.attacks.threat_tiers --root runs/threat-tiers --output benchmarks/results/threat-tiers.md

Whole experiments, by the package's own jobs: ingest, attack, and evaluate with every tier. ResNet-56 (not retrained)
behind STL with the authors' CIFAR dictionary; T2 transfers from a ResNet-20 behind STL with a dictionary that is learned
here. 8-bit images go through the cascade and are checked in full; float32 ones meet every attack, so that each has an
accuracy of its own, and are checked quickly. Stopped and started again with the same --root, it goes on where it was.
Run it from the repository's root; it needs ../shared/data, or a folder like it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.common.command import command_parser
from benchmarks.common.images import LMBDA, authors_file
from benchmarks.common.pages import command_line, commit, measured_on, publish
from stl_ray.cli.jobs import run_job
from stl_ray.config import Experiment
from stl_ray.report.blocks import Section
from stl_ray.report.names import defense_label
from stl_ray.report.page import MARKDOWN, render
from stl_ray.report.records import Scores, TierRow, TierScores, TierStep
from stl_ray.report.tiers import tier_blocks
from stl_ray.store import Layout, Storage

DISSIMILARITY = 0.015

CLASSIFIER, SUBSTITUTE = "resnet56", "substitute"

LEARNED, HELD = 400, 50
"""Training images that the substitute's dictionary is learned from, and those that judge it."""

ATTACKS: Sequence[Mapping[str, Any]] = (
    {"name": "grey-apgd", "tier": "T1b", "attack": "apgd", "options": {"steps": 50}},
    {"name": "substitute-pgd", "tier": "T2", "attack": "pgd", "options": {"steps": 50}},
    {"name": "bpda-pgd", "tier": "T3", "attack": "pgd", "options": {"steps": 50}},
    {"name": "exact-pgd", "tier": "T4", "attack": "pgd", "options": {"steps": 50}},
    {"name": "exact-autoattack", "tier": "T4", "attack": "autoattack", "options": {"steps": 50, "queries": 1000}},
    {"name": "square", "tier": "T5", "attack": "square", "options": {"queries": 1000}},
    {
        "name": "hop-skip-jump", "tier": "T5", "attack": "HopSkipJumpAttack", "engine": "foolbox",
        "options": {"steps": 8, "initial_gradient_eval_steps": 50, "max_gradient_eval_steps": 200},
    },
)  # fmt: skip

ROWS = {
    "u8": "8-bit images, each attack on the survivors of those before it",
    "f32": "float32 images, every attack on every image",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiments, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stl-ray-", ignore_cleanup_errors=True) as folder:
        root = (options.root or Path(folder)).absolute()
        for job in ("ingest", "fit"):
            run_job(job, _substitute(root, options.data))
        found = {}
        for store in options.stores:
            experiment = _experiment(root, store, options)
            for job in ("ingest", "attack", "evaluate", "report"):
                run_job(job, experiment)
            found[store] = _scores(experiment)
    page = _page(found, command_line("benchmarks.attacks.threat_tiers", given), time.monotonic() - start)
    publish(page, options.output)
    return 0


def _experiment(root: Path, store: str, options: argparse.Namespace) -> Experiment:
    budget = {"dissimilarity": DISSIMILARITY, "store": store}
    values = {
        **_common(root / store, CLASSIFIER, options.data),
        "ingest": {"test": _cifar(options.data, "test-*", options.images)},
        "spaces": [{"name": "authors", "load": str(authors_file(options.data, "basis_cifar").absolute())}],
        "attack": {"sets": [{"name": "vanilla-pgd", "attack": "pgd", "options": {"steps": 50}, **budget}]},
        "evaluate": {
            "tiers": {
                "budget": budget,
                "attacks": list(ATTACKS),
                "substitute": str(root / SUBSTITUTE),
                "cascade": store == "u8",
            },
            "sanity": options.sanity if store == "u8" else "quick",
        },
    }
    return Experiment.model_validate(values, strict=False)


def _substitute(root: Path, data: Path) -> Experiment:
    """Another dictionary, learned from other images with another seed, and another classifier."""
    learned = {
        "name": "learned",
        # STL has the universal dictionary: the strata are of no use here, and cost little this way.
        "clusters": 1,
        "candidates": [],
        "autoencoder": {"epochs": 1},
        "dictionary": {"images": LEARNED, "holdout": HELD, "lmbda": LMBDA},
    }
    values = {
        **_common(root / SUBSTITUTE, "resnet20", data),
        "seed": 1,
        "ingest": {"train": _cifar(data, "train-00000-*", LEARNED + HELD)},
        "spaces": [learned],
    }
    return Experiment.model_validate(values, strict=False)


def _common(root: Path, network: str, data: Path) -> dict[str, Any]:
    """A network with its weights as they are behind JPEG and STL."""
    weights = (data / "weights" / f"cifar10_{network}.safetensors").absolute()
    return {
        "name": f"threat-tiers-{root.name}",
        "root": str(root),
        "classifiers": [{"name": network, "architecture": f"cifar_{network}", "weights": str(weights)}],
        "defenses": [{"name": name, "defense": name} for name in ("jpeg", "stl")],
    }


def _cifar(data: Path, files: str, images: int) -> dict[str, Any]:
    """The first images of some files of CIFAR-10."""
    return {"format": "parquet", "path": f"{(data / 'cifar10').absolute()}/{files}.parquet", "limit": images}


def _scores(experiment: Experiment) -> TierScores:
    stored = Storage.open(experiment.root).read_json(Layout(experiment.root).scores(CLASSIFIER))
    scores = Scores.model_validate(stored, strict=False)
    if scores.tiers is None:
        raise SystemExit("the scores have no tiers")
    return scores.tiers


def _page(found: Mapping[str, TierScores], command: str, seconds: float) -> str:
    first = next(iter(found.values()))
    head = [
        "# No defense, JPEG and STL on CIFAR-10, threat tier by threat tier",
        "",
        f"`{command}`",
        "",
        f"{measured_on(seconds)} Commit {commit()}. Two actors of one CPU each on a local Ray; the time is of the last "
        "session alone where it was stopped in between.",
        "",
        f"The first {first.rows[0].images} CIFAR-10 test images; ResNet-56 (He et al., not retrained) behind JPEG (quality 75) "
        f"and behind STL with the authors' CIFAR dictionary (64 filters of 8 x 8, lambda {LMBDA:g}, unclustered), attacked at "
        f"dissimilarity {DISSIMILARITY}. T2 transfers from a ResNet-20 behind STL with a dictionary learned from {LEARNED} "
        "training images with another seed, or behind JPEG. Since nothing is retrained, T1a and T1b know the same here.",
        "",
        *(line for store, tiers in found.items() for line in _words(store, tiers)),
    ]
    sections = [Section(store, ROWS[store], tier_blocks(tiers)) for store, tiers in found.items()]
    return "\n".join(head) + render(MARKDOWN, title="", name="", sections=sections).removeprefix("# \n")


def _words(store: str, tiers: TierScores) -> list[str]:
    """What each attack took, in a sentence for each defense, and what that says."""
    lines = [f"{ROWS[store].capitalize()}:", ""]
    tell = _taken if tiers.cascade else _alone
    lines += [f"- {defense_label(row.defense)}: {tell(row)}." for row in tiers.rows]
    return [*lines, "", *(_reading(row) for row in tiers.rows if row.defense == "stl"), ""]


def _taken(row: TierRow) -> str:
    parts = [f"{before.correct - step.correct} to {_named(step)}" for before, step in pairwise(row.steps)]
    clean, left = row.steps[0].correct, row.worst.correct
    return f"{clean} of {row.images} right when clean, of which fall {', '.join(parts)}; {left} are left"


def _named(step: TierStep) -> str:
    return f"{step.attack} ({step.tier})" if step.tier != "checks" else f"the {step.attack}"


def _alone(row: TierRow) -> str:
    parts = [f"{_named(step)} {step.held} of {step.attacked}" for step in row.steps[1:]]
    clean, left = row.steps[0].correct, row.worst.correct
    return f"{clean} of {row.images} right when clean; alone leave {', '.join(parts)}; {left} are left by all together"


def _reading(row: TierRow) -> str:
    """Whoever does not know the defense, beside whoever differentiates through it."""
    blind = [step for step in row.steps if step.tier in ("T1a", "T1b", "T2")][-1].correct
    adaptive = [step for step in row.steps if step.tier in ("T3", "T4")]
    bpda, exact = ([step.correct for step in adaptive if step.tier == tier][-1] for tier in ("T3", "T4"))
    return (
        f"Of STL's images {row.steps[0].correct} are right when clean and {blind} after the attackers who do not have it (T1, "
        f"T2); {bpda} after one who differentiates past it (T3), and {exact} after one who differentiates through it (T4). "
        + ("What it adds against the first is no robustness against the others." if exact < blind else "")
    ).rstrip()


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.attacks.threat_tiers",
        __doc__,
        data="with cifar10/, weights/ and reference/ (../shared/data)",
        needs_data=True,
    )
    parser.add_argument("--root", type=Path, help="folder of the experiments, to go on in (default: a temporary one)")
    parser.add_argument("--images", type=int, default=64, help="test images, the first ones")
    parser.add_argument(
        "--stores", nargs="+", choices=ROWS, default=list(ROWS), help="what adversarial images are stored as"
    )
    parser.add_argument("--sanity", choices=("quick", "full"), default="full", help="checks on the 8-bit images")
    return parser


if __name__ == "__main__":
    sys.exit(main())
