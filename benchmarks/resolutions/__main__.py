"""What it costs that a space learned at one resolution projects and routes images of another.

    python -m benchmarks.resolutions --output benchmarks/results/resolutions.md

Run it from the repository's root; `--help` says the rest.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.common.command import command_parser
from benchmarks.common.heldout import judge
from benchmarks.common.images import LMBDA, authors_file, load_images
from benchmarks.common.pages import command_line, figure_file, publish
from benchmarks.common.progress import Progress
from benchmarks.common.stored_images import stored_images
from benchmarks.resolutions.page import Result, Routing, figure, report
from stl_ray.config.spaces import AutoencoderConfig, DictionaryConfig, FitConfig
from stl_ray.csc import Dictionary, LearningStep, learn_dictionary, split_bands
from stl_ray.csc.learning.block import WINDOW
from stl_ray.images import resize, to_tensor
from stl_ray.runtime.concurrency import bind
from stl_ray.space import Router
from stl_ray.space.neighbours import Neighbours
from stl_ray.training import fit_space

SIZES = (32, 64, 128, 224)

AUTHORS = ("basis_cifar", "basis_64", "basis_224")

_SEED = 0

Levels = list[NDArray[np.uint8]]

_EXAMPLES = """
what it does, with the same photographs at every size, resized as `stl-ray ingest` does it:
  routing      a small space fitted at one size; held-out photographs of every size through its router
  dictionaries one universal dictionary learned at each size, with the package's defaults; below the size of the windows
               that learning looks at a second one, from so many images that it has seen as many pixels
  projection   held-out photographs of every size through every dictionary, and through the authors' three: objective,
               PSNR and sparsity, coded at the reference tier; ratios are to the dictionary learned at that size

examples:
  python -m benchmarks.resolutions --quick
      a look with what is installed: crops of scikit-image's photographs at 32 and 64 pixels
  python -m benchmarks.resolutions --sizes 32 64 --images 100 --test 40 --routing 500
      a few minutes, of ImageNet-10
  python -m benchmarks.resolutions --output benchmarks/results/resolutions.md
      the whole of it, some minutes, with resolutions.png beside the page
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the page, and write it with its figure where asked."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    if options.quick:
        options.data, options.sizes = None, options.sizes or [32, 64]
        options.images, options.holdout, options.test = min(options.images, 12), min(options.holdout, 4), 8
        options.routing, options.clusters, options.epochs = min(options.routing, 120), 2, min(options.epochs, 2)
    options.sizes = sorted(set(options.sizes or SIZES))
    bind(1)
    start = time.monotonic()
    result = _measure(options, Progress())
    link = figure_file(options.output)
    command, took = command_line("benchmarks.resolutions", given), time.monotonic() - start
    publish(report(result, command, took, link.name if link else None), options.output, figure(result))
    return 0


def _measure(options: argparse.Namespace, progress: Progress) -> Result:
    training, ids, test, source = _photographs(options)
    routing = None
    if options.routing:
        routing = _route(options, training[: options.routing], ids[: options.routing], test, progress)
    recipes = {f"learned at {size}": (size, options.images) for size in options.sizes}
    recipes |= {f"learned at {s}, {n} images": (s, n) for s in options.sizes if (n := _matching(s, options.images))}
    dictionaries, iterations = {}, {}
    for name, (size, count) in recipes.items():
        progress.tell(name, now=True)
        images = at(size, training[: options.holdout + count])
        step = _learn(images[options.holdout :], images[: options.holdout], name, progress)
        dictionaries[name] = step.dictionary
        iterations[name] = f"{step.iteration}{'' if step.converged else ' (all)'}"
    dictionaries |= _authors(options.data)
    judgements = {}
    for size in options.sizes:
        highpass = split_bands(at(size, test))[1]
        for name, dictionary in dictionaries.items():
            progress.tell(f"projecting {size} px: {name}", now=True)
            judgements[name, size] = judge(dictionary, highpass)
    return Result(
        source=source,
        images=options.images,
        holdout=options.holdout,
        test=len(test),
        sizes=options.sizes,
        iterations=iterations,
        names=list(dictionaries),
        judgements=judgements,
        routing=routing,
    )


def _matching(size: int, count: int) -> int:
    """Images of a size below the window that learning looks at, with as many pixels as `count` windows; else none."""
    return count * (WINDOW // size) ** 2 if size < WINDOW else 0


def _learn(images: Tensor, holdout: Tensor, name: str, progress: Progress) -> LearningStep:
    config = DictionaryConfig(lmbda=LMBDA, images=len(images), holdout=len(holdout))
    step = None
    for step in learn_dictionary(images, config, seed=_SEED, name="universal", holdout=holdout):
        progress.tell(f"{name}: iteration {step.iteration}, held-out objective {step.holdout_objective:.4g}")
    assert step is not None
    return step


def _photographs(options: argparse.Namespace) -> tuple[Levels, list[str], Levels, str]:
    """Levels and ids to learn from, levels to judge on, and where they come from in words."""
    most = options.holdout + max(options.images, *(_matching(size, options.images) for size in options.sizes))
    most = max(most, options.routing)
    if options.data is not None:
        training = stored_images("imagenet10/train", most, options.data)
        test = stored_images("imagenet10/val", options.test, options.data)
        return training.levels, training.ids, test.levels, "ImageNet, ten classes: train, judged on val"
    # Every other one of these is clean.
    images = load_images(max(options.sizes), 2 * (most + options.test), None)
    levels = [(image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy() for image in images.pixels[::2]]
    return (
        levels[:most],
        [f"crop {i}" for i in range(most)],
        levels[most:],
        f"{images.source}, judged on others of them",
    )


def at(size: int, levels: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(N, 3, size, size) in [0, 1] of photographs (H, W, 3) uint8, as ingest resizes them."""
    return to_tensor([resize(one, size) for one in levels])


def _authors(data: Path | None) -> dict[str, Dictionary]:
    files = {} if data is None else {name: authors_file(data, name) for name in AUTHORS}
    return {
        f"the authors' {name}": Dictionary.from_reference(file, LMBDA) for name, file in files.items() if file.is_file()
    }


def _route(options: argparse.Namespace, training: Levels, ids: list[str], test: Levels, progress: Progress) -> Routing:
    """Fit a space at one size for its router; its dictionaries, which nobody uses, are learned from a few images."""
    size = options.space_size
    progress.tell(f"fitting a space at {size} px", now=True)
    few = DictionaryConfig(filters=8, images=16, holdout=4, iterations=1)
    autoencoder = AutoencoderConfig(epochs=options.epochs)
    config = FitConfig(clusters=options.clusters, autoencoder=autoencoder, candidates=(), dictionary=few)
    space = fit_space(at(size, training), ids, config, seed=_SEED, report=progress.tell)
    assert space.router is not None
    return route(space.router, size, {side: at(side, test) for side in options.sizes}, len(training))


def route(router: Router, fitted: int, images: dict[int, Tensor], training: int) -> Routing:
    """The clusters and latents of the same photographs at every size, beside those at the largest size."""
    latents = {size: router.latents(batch) for size, batch in images.items()}
    largest = max(images)
    nearest = Neighbours(router.clusters.latents, router.reference_ids).nearest(latents[largest], 1)[1][:, 0]
    return Routing(
        fitted=fitted,
        training=training,
        sizes_of_clusters=router.clusters.sizes,
        neighbours=router.neighbours,
        side=router.autoencoder.side,
        clusters={size: router.vote(points) for size, points in latents.items()},
        moved={size: (points - latents[largest]).double().norm(dim=1) for size, points in latents.items()},
        nearest=nearest,
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmarks.resolutions",
        __doc__,
        _EXAMPLES,
        data="with imagenet10/train-*.parquet and imagenet10/val-*.parquet, and reference/dictionaries for the authors'; "
        "default $STL_RAY_DATA, then ../shared/data, then photographs of scikit-image",
    )
    parser.add_argument("--quick", action="store_true", help="12 crops of photographs at 32 and 64 pixels, unless said")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="PIXELS", help="default 32 64 128 224")
    parser.add_argument("--images", type=int, default=300, metavar="N", help="to learn each dictionary from (300)")
    parser.add_argument(
        "--holdout",
        type=int,
        default=64,
        metavar="N",
        help="further ones by which learning sees that it has converged (64)",
    )
    parser.add_argument("--test", type=int, default=200, metavar="N", help="held-out images to judge on (200)")
    parser.add_argument(
        "--routing",
        type=int,
        default=2000,
        metavar="N",
        help="training images of the space whose router is looked at (2000); 0: leave it out",
    )
    parser.add_argument(
        "--space-size", type=int, default=64, metavar="PIXELS", help="size that this space is fitted at (64)"
    )
    parser.add_argument(
        "--clusters", type=int, default=FitConfig().clusters, metavar="M", help="clusters of this space (4)"
    )
    parser.add_argument(
        "--epochs",
        type=int,
        default=AutoencoderConfig().epochs,
        metavar="N",
        help="most epochs of its autoencoder (30)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
