"""What the strata of a fitted CIFAR-10 space are worth: routing under attack, latent distances, and verdicts.

    python -m benchmarks.strata --space runs/cifar10/spaces/natural --output benchmarks/results/strata.md

Run it from the repository's root; `--help` says the rest.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from benchmarks.common.command import command_parser
from benchmarks.common.pages import command_line, figure_file, publish
from benchmarks.common.progress import Progress
from benchmarks.common.stored_images import Stored, stored_images
from benchmarks.strata.attacks import attack_all
from benchmarks.strata.autoencoder import denoise, routing_speeds
from benchmarks.strata.page import Result, report
from benchmarks.strata.page_routing import figure
from benchmarks.strata.projection import choices, defended, undefended
from benchmarks.strata.routing import FAR, assignments, decide, distances
from stl_ray.errors import StlRayError
from stl_ray.images import to_tensor
from stl_ray.models import Classifier, build_classifier, load_weights
from stl_ray.runtime.concurrency import bind
from stl_ray.space import QuasiNaturalSpace, Router, hash_ids
from stl_ray.store.layout import CLEAN

ARCHITECTURE, CLASSES = "cifar_resnet56", 10

_EXAMPLES = """
what it does with random test images, always the same ones, one thread in one process:
  attacks     FGSM-0.08, FGSM-0.04 and BIM-0.03 on the vanilla classifier, each image at its own L2 dissimilarity and
              stored in 8 bits, as `stl-ray attack` does it by default
  routing     the share of images that change cluster, for several k of the vote and for the nearest centroid; training
              images against their k-means cluster; a rule that keeps or changes the default k
  distances   clean to attacked latents, beside the nearest training latents and random pairs of images
  projection  the stratum's dictionary beside the universal one: objective, PSNR, sparsity, and the verdicts of the
              vanilla classifier on T(x) in 8 bits; controls are another stratum's dictionary and the authors'
  autoencoder denoising of test images, and images a second of routing

examples:
  stl-ray ingest configs/cifar10.yaml root=runs/cifar10; stl-ray fit configs/cifar10.yaml root=runs/cifar10
      make such a space, in runs/cifar10/spaces/natural
  python -m benchmarks.strata --space runs/cifar10/spaces/natural --images 50 --training 500
      a look, within a minute
  python -m benchmarks.strata --space runs/cifar10/spaces/natural --output benchmarks/results/strata.md
      500 images, some minutes, with strata.png beside the page; leave the machine alone meanwhile for the speed of
      routing (the column "Busy" tells)
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it with its figure where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    bind(1)
    start = time.monotonic()
    result = _measure(options, Progress())
    link = figure_file(options.output)
    command, took = command_line("benchmarks.strata", given), time.monotonic() - start
    page = report(result, command, took, link.name if link else None)
    publish(page, options.output, figure(result.distances, result.assignments))
    return 0


def _measure(options: argparse.Namespace, progress: Progress) -> Result:
    stored = stored_images("cifar10/test", options.images, options.data)
    space, router, victim = _setting(options, stored)
    clean = to_tensor(stored.levels)
    attacked = attack_all(victim, clean, stored, progress)
    sets = {CLEAN: clean, **{name: one.images for name, one in attacked.items()}}
    progress.tell("routing", now=True)
    latents = {name: router.latents(images) for name, images in sets.items()}
    routed = {name: router.vote(points) for name, points in latents.items()}
    found = assignments(router, latents, options.training)
    outcomes = [undefended(victim, sets, stored.labels)]
    for choice in choices(space, routed, stored.ids, options.data):
        progress.tell(f"projection: {choice.name}", now=True)
        outcomes.append(defended(victim, choice, sets, stored.labels))
    progress.tell("autoencoder", now=True)
    return Result(
        space=space,
        router=router,
        architecture=ARCHITECTURE,
        size=clean.shape[-1],
        attacks=attacked,
        assignments=found,
        decision=decide(found, router.neighbours),
        distances=distances(router, latents),
        routed=routed,
        outcomes=outcomes,
        denoising=denoise(router.autoencoder, clean, stored.ids),
        speeds=routing_speeds(router, clean),
    )


def _setting(options: argparse.Namespace, stored: Stored) -> tuple[QuasiNaturalSpace, Router, Classifier]:
    """The space and the classifier.

    Raises:
        SystemExit: one cannot be read, or the space is not one that this can be measured on.
    """
    weights = options.weights or (options.data / "weights" / "cifar10_resnet56.safetensors")
    victim = build_classifier(ARCHITECTURE, [str(label) for label in range(CLASSES)], seed=0).eval()
    try:
        space = QuasiNaturalSpace.load(str(options.space.absolute()))
        load_weights(victim, str(weights.absolute()))
    except StlRayError as error:
        raise SystemExit(str(error)) from error
    if space.router is None or len(space.dictionaries) < 2 or len(space.router.reference_ids) < FAR:
        raise SystemExit(f"{options.space.name}: expected a space of two clusters and {FAR} references at least")
    known = torch.isin(hash_ids(stored.ids), space.router.reference_ids)
    if bool(known.any()):
        raise SystemExit(f"{options.space.name} was fitted on {int(known.sum())} of these test images")
    return space, space.router, victim


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.strata",
        __doc__,
        _EXAMPLES,
        data="with cifar10/test-*.parquet, and reference/dictionaries where the authors' dictionary is to be compared; "
        "default $STL_RAY_DATA, then ../shared/data",
    )
    parser.add_argument(
        "--space", type=Path, required=True, metavar="FOLDER", help="of the space artifact, fitted on CIFAR-10 train"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="safetensors of the vanilla ResNet-56; default weights/cifar10_resnet56.safetensors of the data folder",
    )
    parser.add_argument("--images", type=int, default=500, metavar="N", help="test images, at least 2 (500)")
    parser.add_argument(
        "--training",
        type=int,
        default=10_000,
        metavar="N",
        help="training latents that are routed again, with themselves left out (10000), or all that there are",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
