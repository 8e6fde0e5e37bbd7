"""Quilting on one core: the exact search beside faiss, exact and as published, and images a second with every seam.

python -m benchmarks.defenses.quilting
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.common.images import default_data, load_images
from stl_ray.defenses.quilting import Quilting, QuiltingOptions
from stl_ray.defenses.quilting_index import build_index, faiss
from stl_ray.defenses.quilting_library import PatchLibrary
from stl_ray.defenses.quilting_seams import SIDE
from stl_ray.defenses.quilting_stitching import STRIDE, cut_out
from stl_ray.images import to_uint8
from stl_ray.training.defenses.patches import draw_patches, patches_per_image, smallest_keys


def main() -> None:
    """Time searches in turns, then the whole transformation, and say how near the approximate neighbours are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defenses.quilting", description=__doc__)
    parser.add_argument("--patches", type=int, nargs="+", default=[100_000, 1_000_000], help="of the library")
    parser.add_argument("--images", type=int, default=4, help="in the batch")
    parser.add_argument("--training", type=int, default=2000, help="images of 32 pixels that patches are drawn from")
    parser.add_argument("--turns", type=int, default=3, help="of which the median counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss().omp_set_num_threads(1)
    for count in options.patches:
        patches = library_patches(count, options.training, default_data())
        exact, approximate = (PatchLibrary(torch.from_numpy(patches), index) for index in (None, build_index(patches)))
        for size in (32, 224):
            images = load_images(size, options.images, default_data()).pixels
            _searches(exact, approximate, images, options.turns)
            for library, search in ((exact, "exact"), (approximate, "faiss")):
                _transformations(library, search, images)


def library_patches(count: int, training: int, data: Path | None) -> NDArray[np.uint8]:
    """Patches (count, 75) of so many training images of 32 pixels."""
    images = to_uint8(load_images(32, training, data).pixels)
    each = patches_per_image(count, len(images))
    drawn = (
        draw_patches(image, f"{number}", each, side=SIDE, seed=0, purpose="benchmark")
        for number, image in enumerate(images)
    )
    return smallest_keys(drawn, count)[1]


def _searches(exact: PatchLibrary, approximate: PatchLibrary, images: Tensor, turns: int) -> None:
    rows = (images.shape[-1] - SIDE) // STRIDE + 1
    queries = cut_out((images * 255).round(), rows, rows).flatten(2).flatten(0, 1)
    flat = faiss().IndexFlatL2(queries.shape[1])
    flat.add(exact.patches.float().numpy())
    searches: dict[str, Callable[[], object]] = {
        "exact": lambda: exact.nearest(queries, 1),
        "faiss, exact": lambda: flat.search(queries.numpy(), 1),
        "faiss, as published": lambda: approximate.nearest(queries, 1),
    }
    times: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(turns):
        for name, search in searches.items():
            times[name].append(_seconds(search))
    seconds = {name: statistics.median(taken) for name, taken in times.items()}
    found = {name: library.nearest(queries, 1)[:, 0] for name, library in (("exact", exact), ("faiss", approximate))}
    same = float((found["exact"] == found["faiss"]).float().mean())
    off = {name: (exact.patches[one].float() - queries).square().mean().sqrt() for name, one in found.items()}
    print(f"library {len(exact.patches)}, {len(queries)} patches of {images.shape[-1]} px:")
    for name, taken in seconds.items():
        print(
            f"  {name}: {taken / len(queries) * 1e6:.0f} us a patch, {seconds['exact'] / taken:.2f} x as fast as exact"
        )
    print(
        f"  the same neighbour {same:.1%}; root mean square distance {off['exact']:.2f}, by faiss {off['faiss']:.2f} of 255"
    )


def _transformations(library: PatchLibrary, search: str, images: Tensor) -> None:
    for seam in ("reference", "cut"):
        defense = Quilting(library, QuiltingOptions.model_validate({"seam": seam}))
        taken = _seconds(lambda defense=defense: defense.purify(images, seeds=range(len(images))))  # type: ignore[misc]
        print(f"  {search}, seam {seam}: {len(images) / taken:.2f} images/s", flush=True)


def _seconds(work: Callable[[], object]) -> float:
    """Of the processor, so that it does not count what else runs on the core."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
