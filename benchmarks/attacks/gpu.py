"""Images per second and memory of every attack on a GPU, and of PGD through STL beside BPDA.

    python -m benchmarks.attacks.gpu --output benchmarks/results/attacks-gpu.md

ResNet-50 with random weights (neither time nor memory depends on them) at 224 pixels, float32 results, L_inf 4/255 or for
minimum-norm attacks an L2 that nothing reaches. The memory is the peak of the attack less what the network and the images
hold. `--device cpu` runs the same anywhere; its memory column is empty.
"""

import argparse
import sys
import time

import torch
from torch import Tensor

from benchmarks.common.command import command_parser
from benchmarks.common.images import LMBDA, load_images
from benchmarks.common.pages import publish
from benchmarks.common.progress import Progress
from stl_ray.attacks import Budget, MinimumNorm, Universal, make_attack
from stl_ray.defenses import Defended, make_defense
from stl_ray.models import Victim, build_classifier, predict
from stl_ray.space import QuasiNaturalSpace

OPTIONS: dict[str, dict[str, int]] = {
    "fgsm": {},
    "bim": {"steps": 10},
    "pgd": {"steps": 20},
    "apgd": {"steps": 20},
    "apgd_t": {"steps": 20, "targets": 3},
    "deepfool": {"steps": 5},
    "cw": {"steps": 20, "binary_search_steps": 3},
    "fab_t": {"steps": 10, "targets": 3},
    "square": {"queries": 50},
}
"""Attacks with the options they are timed at."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it where asked."""
    options = _parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    progress = Progress()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: pass --device cpu")
    given = load_images(options.size, options.images, options.data)
    images = ((given.pixels * 255).round() / 255).to(device)
    network = build_classifier(options.network, [str(index) for index in range(1000)], seed=0).to(device).eval()
    rows = []
    for name, own in OPTIONS.items():
        progress.tell(name, now=True)
        rows.append(_row(f"{name} {own or ''}", *_timed(name, own, network, images)))
    space = QuasiNaturalSpace.from_dictionary(given.dictionary, LMBDA).to(device)
    stl = make_defense("stl", {}, {"space": space, "solver": "auto"})
    few = images[: options.defended]
    for gradient in ("exact", "bpda"):
        progress.tell(f"pgd through STL, {gradient}", now=True)
        victim = Defended(network, stl, gradient)
        rows.append(_row(f"pgd, 20 steps, through STL, {gradient}", *_timed("pgd", {"steps": 20}, victim, few)))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    page = "\n".join(
        [
            "# Attacks on a GPU",
            "",
            f"{where}, torch {torch.__version__}; {options.network} at {options.size} pixels, {len(images)} images, "
            f"{len(few)} through STL.",
            "",
            "| Attack | Images | Images/s | MB per image |",
            "| --- | ---: | ---: | ---: |",
            *rows,
            "",
        ]
    )
    publish(page, options.output)
    return 0


def _row(name: str, images: int, seconds: float, peak: float | None) -> str:
    memory = "" if peak is None else f"{peak / images / 1e6:.1f}"
    return f"| {name} | {images} | {images / seconds:.2f} | {memory} |"


def _timed(name: str, options: dict[str, int], victim: Victim, images: Tensor) -> tuple[int, float, float | None]:
    """Images, seconds of one attack after a warm-up on one image, and its peak memory in bytes."""
    attack = make_attack(name, options)
    assert not isinstance(attack, Universal)
    budget = Budget(kind="l2", size=1e3) if isinstance(attack, MinimumNorm) else Budget(kind="linf", size=4 / 255)
    labels, cuda = predict(victim, images), images.device.type == "cuda"

    def run(count: int) -> None:
        ids = [str(index) for index in range(count)]
        attack(victim, images[:count], labels[:count], budget=budget, ids=ids, seed=0, store="f32")

    run(1)
    before = 0
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    run(len(images))
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return len(images), seconds, float(torch.cuda.max_memory_allocated() - before) if cuda else None


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("benchmarks.attacks.gpu", __doc__, data="folder of images (default: ../shared/data)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--network", default="torchvision:resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--defended", type=int, default=32, help="of the images, through STL")
    return parser


if __name__ == "__main__":
    sys.exit(main())
