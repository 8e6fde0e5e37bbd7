"""Training CIFAR-10 by the jobs that users run: curves, throughput, and one worker beside two.

    python -m benchmarks.training --output benchmarks/results/training-cpu.md
    python -m benchmarks.training --gpu --root runs/bench-cifar10 --output benchmarks/results/training-gpu.md

Run it from the repository's root on an idle machine; `--help` says the rest.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from benchmarks.common.command import command_parser
from benchmarks.common.pages import command_line, processor, publish, table
from benchmarks.common.progress import Progress
from stl_ray.cli import main as stl_ray
from stl_ray.config import RayConfig, bundled
from stl_ray.report import charts
from stl_ray.report.records import TrainingEpoch
from stl_ray.runtime.session import ray_session

AIMS = {"vgg16_bn_small": 0.93, "vgg16_bn_small-for-stl_cluster": 0.90}
"""Validation accuracy on x and on T(x); the paper's are 0.9298 and 0.9011 (Table 1)."""

WORKERS_ON = "small_cnn"
"""The quickstart's classifier, which one worker and two train."""

SEEDS = (0, 1, 2)

_EXAMPLES = """
what it does:
  curves      without --gpu a small network on a part of CIFAR-10, for a look at loss and throughput; with it, configs/
              cifar10.yaml as it is (VGG-16, 150 epochs): the vanilla classifier, and the one retrained on T(x) of a space
              that is fitted for it. Given a --root, it goes on where it was stopped.
  workers     the quickstart's classifier with one and with two CPU workers, three seeds each (not with --gpu)

examples:
  python -m benchmarks.training --images 2000 --epochs 2
      some minutes' look
  python -m benchmarks.training --gpu --config cifar10-modern --root runs/bench-modern --output training-gpu-modern.md
      the modern recipe
"""


@dataclass(frozen=True)
class Curve:
    """One classifier: its epochs, and the number of its training images."""

    epochs: Sequence[TrainingEpoch]
    images: int


def main(arguments: list[str] | None = None) -> int:
    """Train, print the page, and write it with its figure where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    if options.data is None or not sorted(options.data.glob("cifar10/train-*.parquet")):
        raise SystemExit("CIFAR-10 as Parquet is needed: pass --data, a folder with cifar10/train-*.parquet")
    progress, start = Progress(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="training-") as place, ray_session(RayConfig()):
        curves = _curves(options, options.root or Path(place) / "cifar10", progress)
        accuracies = {} if options.gpu else _workers(Path(place), progress)
    page = _page(options, curves, accuracies, command_line("benchmarks.training", given), time.monotonic() - start)
    figure = charts.to_png(charts.training_chart, {name: curve.epochs for name, curve in curves.items()})
    publish(page, options.output, figure)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("benchmarks.training", __doc__, _EXAMPLES, data="folder with cifar10/*.parquet")
    parser.add_argument("--gpu", action="store_true", help="the whole of --config on GPUs")
    parser.add_argument("--config", default="cifar10", help="a bundled configuration, with --gpu [cifar10]")
    parser.add_argument("--classifier", default="cifar_resnet20", help="without --gpu [cifar_resnet20]")
    parser.add_argument("--images", type=int, default=10_000, help="training images without --gpu [10000]")
    parser.add_argument("--epochs", type=int, default=6, help="without --gpu [6]")
    parser.add_argument("--root", type=Path, help="folder of the experiment, kept; a temporary one without it")
    return parser


def _curves(options: Any, root: Path, progress: Progress) -> dict[str, Curve]:
    data = options.data.resolve()
    overrides = [
        f"root={root}",
        f"ingest.train={{format: parquet, path: {data}/cifar10/train-*.parquet}}",
        f"ingest.test={{format: parquet, path: {data}/cifar10/test-*.parquet}}",
    ]
    jobs = ["ingest", "fit", "project", "train"]
    if options.gpu:
        overrides += ["defenses=[{name: stl_cluster, defense: stl_cluster}]", "project.splits=[train, test]"]
    else:
        jobs = ["ingest", "train"]
        overrides += [
            f"ingest.train.limit={options.images}",
            "ingest.test.limit=2000",
            "train.gpu=false",
            _only(options.classifier),
            f"train.epochs={options.epochs}",
            f"train.cpus_per_worker={os.cpu_count()}",
            "train.learning_rate=0.1",
            "train.schedule=cosine",
        ]
    config = bundled(options.config if options.gpu else "cifar10")
    for job in jobs:
        progress.tell(f"{options.config}: {job}", now=True)
        if code := stl_ray([job, config, *overrides]):
            raise SystemExit(code)
    return {path.name: _curve(path) for path in sorted((root / "train").iterdir())}


def _only(architecture: str) -> str:
    """One classifier, under its architecture's name, without retraining."""
    return f"classifiers=[{{name: {architecture}, architecture: {architecture}}}]"


def _curve(folder: Path) -> Curve:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    counts = json.loads((folder / "model.json").read_text(encoding="utf-8"))["meta"]["class_counts"]
    return Curve([TrainingEpoch.model_validate_json(line) for line in lines], sum(counts))


def _workers(place: Path, progress: Progress) -> dict[int, list[float]]:
    """Accuracies of the quickstart's classifier on its test images, by the number of workers; one for each seed."""
    found: dict[int, list[float]] = {1: [], 2: []}
    first = place / "quickstart"
    if code := stl_ray(["ingest", bundled("quickstart"), f"root={first}"]):
        raise SystemExit(code)
    for seed in SEEDS:
        for workers, accuracies in found.items():
            root = place / f"quickstart-{seed}-{workers}"
            shutil.copytree(first / "ingest", root / "ingest")
            overrides = [f"root={root}", f"seed={seed}", f"train.workers={workers}", _only(WORKERS_ON)]
            progress.tell(f"quickstart, seed {seed}, {workers} workers", now=True)
            if code := stl_ray(["train", bundled("quickstart"), *overrides]):
                raise SystemExit(code)
            last = _curve(root / "train" / WORKERS_ON).epochs[-1]
            accuracies.append(last.validation_accuracy or 0.0)
    return found


def _page(
    options: Any, curves: Mapping[str, Curve], accuracies: Mapping[int, list[float]], command: str, seconds: float
) -> str:
    versions = {name: version(name) for name in ("stl-ray", "torch", "torchvision", "ray")}
    gpu = f"; {_gpu()}" if options.gpu else ""
    what = f"configs/{options.config}.yaml" if options.gpu else f"{options.classifier}, {options.images} images"
    blocks = [
        "# Training on CIFAR-10",
        f"`{command}`",
        f"{processor()}{gpu}; {', '.join(f'{name} {number}' for name, number in versions.items())}; took {seconds:.0f} s. {what}. "
        "Accuracy on the test split, which selects nothing: the last epoch's weights are kept.",
        table(
            [
                "Classifier",
                "Epochs",
                "Loss, first",
                "Loss, last",
                "Test accuracy",
                "Aim",
                "Images/s",
                "Waiting for images",
            ],
            [_row(name, curve, aims=options.gpu) for name, curve in curves.items()],
        ),
        "Images per second: of an epoch, the median. Waiting: share of the training's time without an image to train on. "
        "Curves: solid on training images, dashed on test images.",
        *([f"![Curves]({options.output.stem}.png)"] if options.output else []),
    ]
    if accuracies:
        blocks += [
            "## One worker and two",
            f"The quickstart's classifier ({WORKERS_ON}, 15 epochs) with one and with two CPU workers over gloo, the same "
            f"batches, seeds {', '.join(map(str, SEEDS))}: accuracy on its 500 test images. Batch norm takes each worker's own "
            "statistics, so the two are different trainings.",
            table(
                ["Workers", *(f"Seed {seed}" for seed in SEEDS), "Mean", "Standard deviation"],
                [
                    [str(workers), *(f"{a:.3f}" for a in found), f"{mean(found):.3f}", f"{stdev(found):.3f}"]
                    for workers, found in accuracies.items()
                ],
            ),
        ]
    return "\n\n".join(blocks) + "\n"


def _row(name: str, curve: Curve, *, aims: bool) -> list[str]:
    first, last = curve.epochs[0], curve.epochs[-1]
    accuracy = last.validation_accuracy
    aim = AIMS.get(name) if aims else None
    return [
        name,
        f"{last.epoch}",
        f"{first.loss:.3f}",
        f"{last.loss:.3f}",
        "-" if accuracy is None else f"{accuracy:.4f}",
        "-" if aim is None else f"{aim:.2f}, {'met' if (accuracy or 0) >= aim else 'missed'}",
        f"{median(epoch.images_per_second for epoch in curve.epochs):.0f}",
        f"{mean(epoch.data_wait or 0.0 for epoch in curve.epochs):.1%}",
    ]


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


if __name__ == "__main__":
    sys.exit(main())
