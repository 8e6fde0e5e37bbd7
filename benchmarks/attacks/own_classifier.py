"""What JPEG and STL are worth in front of somebody's own ImageNet classifier, which is used as it is.

    python -m benchmarks.attacks.own_classifier --root runs/own --output benchmarks/results/imagenet-mobilenet.md
    python -m benchmarks.attacks.own_classifier --classifier resnet50 --root runs/own --output ...

Whole experiments, by the package's own jobs: ingest, attack, evaluate, report. Nothing is trained and there are no training
images: the classifier is a `module:function` (or torchvision's architecture with a file of weights), it answers over ImageNet's
1000 classes, and STL projects onto the authors' dictionary. Stopped and started again with the same --root, it goes on where
it was. Run it from the repository's root; it needs ../shared/data, or a folder like it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.command import command_parser
from benchmarks.common.images import LMBDA, authors_file
from benchmarks.common.pages import command_line, commit, measured_on, publish
from stl_ray.cli.jobs import run_job
from stl_ray.config import Experiment
from stl_ray.report.accuracy import accuracy_table, difference_table
from stl_ray.report.attacks import attack_blocks
from stl_ray.report.blocks import Section
from stl_ray.report.page import MARKDOWN, render
from stl_ray.report.records import Scores
from stl_ray.store import Layout, Storage

SIZE = 224

IMAGES = {
    "imagenet10": ("imagenet10/val-*.parquet", "validation images of ten classes"),
    "nips17": (
        "imagenet_nips17_ccby/test-*.parquet",
        "photographs of the NIPS 2017 adversarial competition (CC BY 2.0)",
    ),
    "one-per-class": ("imagenet_sample_1perclass/test-*.parquet", "photographs, one of a class"),
}
"""The sets of images by name: their files, and what they are. All are scored among ImageNet's 1000 classes."""

ATTACKS: Sequence[dict[str, Any]] = (
    {"name": "fgsm-0.08", "attack": "fgsm", "dissimilarity": 0.08},
    {"name": "fgsm-0.04", "attack": "fgsm", "dissimilarity": 0.04},
    {"name": "bim-0.03", "attack": "bim", "dissimilarity": 0.03},
    {"name": "deepfool-0.03", "attack": "deepfool", "dissimilarity": 0.03},
)

NAMES = {"mobilenet": "MobileNetV2", "resnet50": "compressed ResNet-50"}


def main(arguments: list[str] | None = None) -> int:
    """Run the experiments, print the page, and write it where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    start = time.monotonic()
    found = {}
    with tempfile.TemporaryDirectory(prefix="stl-ray-", ignore_cleanup_errors=True) as folder:
        root = (options.root or Path(folder)).absolute() / options.classifier
        for name in options.sets:
            experiment = _experiment(root / name, name, options)
            for job in ("ingest", "attack", "evaluate", "report"):
                run_job(job, experiment)
            stored = Storage.open(experiment.root).read_json(Layout(experiment.root).scores(options.classifier))
            found[name] = Scores.model_validate(stored, strict=False)
    command = command_line("benchmarks.attacks.own_classifier", given)
    publish(_page(found, options.classifier, command, time.monotonic() - start), options.output)
    return 0


def _classifier(name: str, data: Path) -> dict[str, Any]:
    """The one line that differs between the two."""
    weights = str((data / "weights" / "imagenet_resnet50_pqf.safetensors").absolute())
    return {
        "mobilenet": {
            "name": name,
            "architecture": "benchmarks.common.imagenet_mobilenet:network",
            "classes": "imagenet",
        },
        "resnet50": {"name": name, "architecture": "torchvision:resnet50", "weights": weights, "classes": "imagenet"},
    }[name]


def _experiment(root: Path, images: str, options: argparse.Namespace) -> Experiment:
    files, _ = IMAGES[images]
    values = {
        "name": f"{options.classifier}-{images}",
        "root": str(root),
        "ingest": {
            "test": {"format": "parquet", "path": f"{options.data.absolute()}/{files}", "limit": options.images},
            "size": SIZE,
            "shard_size": 50,
        },
        "classifiers": [_classifier(options.classifier, options.data)],
        "spaces": [{"name": "authors", "load": str(authors_file(options.data, "basis_224").absolute())}],
        "defenses": [{"name": name, "defense": name} for name in ("jpeg", "stl")],
        "attack": {"sets": list(ATTACKS)},
        "evaluate": {"tiers": {"attacks": []}},
    }
    return Experiment.model_validate(values, strict=False)


def _page(found: dict[str, Scores], classifier: str, command: str, seconds: float) -> str:
    head = [
        f"# JPEG and STL in front of a {NAMES[classifier]} that was trained elsewhere",
        "",
        f"`{command}`",
        "",
        f"{measured_on(seconds, ('torch', 'torchvision', 'numpy'))} Commit {commit()}. Two actors of one CPU each on a local Ray; "
        "the time is of the last session alone where it was stopped in between.",
        "",
        f"The classifier is used as it is (vanilla setting), over ImageNet's 1000 classes; STL with the authors' dictionary for "
        f"{SIZE} pixels (64 filters of 8 x 8, lambda {LMBDA:g}, unclustered), JPEG of quality 75. The attacks do not know of a defense "
        "(T1a): these are no claims of robustness.",
        "",
        *(f"- {_clean(name, scores)}" for name, scores in found.items()),
        "",
    ]
    sections = [
        Section(
            name,
            f"{name}: {IMAGES[name][1]}",
            (accuracy_table(scores, "vanilla"), difference_table(scores, "vanilla"), *attack_blocks(scores.attacks)),
        )
        for name, scores in found.items()
    ]
    return "\n".join(head) + render(MARKDOWN, title="", name="", sections=sections).removeprefix("# \n")


def _clean(name: str, scores: Scores) -> str:
    """The classifier's accuracy alone, to hold against what is known of it."""
    (cell,) = (c for c in scores.cells if (c.setting, c.defense, c.attack) == ("vanilla", "none", "clean"))
    return f"{name}: {cell.correct} of {cell.total} right when clean ({cell.accuracy:.3f} [{cell.low:.3f}, {cell.high:.3f}])"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.attacks.own_classifier",
        __doc__,
        data="with imagenet10/, imagenet_nips17_ccby/, imagenet_sample_1perclass/, weights/ and reference/ (../shared/data)",
        needs_data=True,
    )
    parser.add_argument("--classifier", choices=sorted(NAMES), default="mobilenet", help="the network [mobilenet]")
    parser.add_argument("--images", type=int, default=400, help="images of a set at most [400]")
    parser.add_argument("--sets", nargs="+", choices=list(IMAGES), default=list(IMAGES), help="of images [all]")
    parser.add_argument("--root", type=Path, help="folder of the experiments [a temporary one]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
