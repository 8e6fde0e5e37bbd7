"""D3, a batch on one core, beside scikit-learn's orthogonal matching pursuit patch by patch.

python -m benchmarks.defenses.d3
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.linear_model import orthogonal_mp
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.common.images import default_data, load_images
from benchmarks.defenses.page import IMAGENET
from stl_ray.defenses.d3 import D3
from stl_ray.defenses.patch_dictionary import PatchDictionary
from stl_ray.defenses.patch_grid import PatchGrid
from stl_ray.images import to_uint8
from stl_ray.training.defenses.patch_dictionary import choose_atoms
from stl_ray.training.defenses.patches import draw_patches, smallest_keys

SIDE, STRIDE, SIMILARITY = 8, 4, 0.9


def main() -> None:
    """Time both, in turns; scikit-learn on some patches of each image, which it codes one by one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defenses.d3", description=__doc__)
    parser.add_argument("--atoms", type=int, default=10_000)
    parser.add_argument("--sparsity", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 224], metavar="PIXELS")
    parser.add_argument("--patches", type=int, default=20, help="of an image, for scikit-learn (20)")
    parser.add_argument("--turns", type=int, default=5, help="of which the median counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    dictionary = patch_dictionary(options.atoms, default_data())
    print(
        "| size | CPU ms an image | images/s per core | scikit-learn, CPU ms | times as fast | ImageNet, core hours |"
    )
    print("|---|---|---|---|---|---|")
    for size in options.sizes:
        turns = [
            _turn(D3(dictionary, options.sparsity, STRIDE), size, options.patches) for _ in range(options.turns + 1)
        ]
        ours, theirs = map(statistics.median, zip(*turns[1:], strict=True))
        hours = ours / 1e3 * IMAGENET / 3600
        print(
            f"| {size} | {ours:.1f} | {1e3 / ours:.2f} | {theirs:.0f} | {theirs / ours:.1f} | {hours:.0f} |", flush=True
        )


def _turn(defense: D3, size: int, count: int) -> tuple[float, float]:
    """Milliseconds of an image by the defense, and by scikit-learn as it follows from `count` patches; both float32."""
    images = load_images(size, max(2, 2048 // size), default_data()).pixels
    original, share = by_scikit_learn(defense, images[:1], count)
    ours = _milliseconds(lambda: defense.purify(images, seeds=range(len(images))))
    return ours / len(images), _milliseconds(original) / share


def by_scikit_learn(defense: D3, image: Tensor, count: int) -> tuple[Callable[[], object], float]:
    """The pursuit of `count` patches of an image (1, 3, H, W), one by one, and which share of the image they are."""
    height, width = image.shape[2:]
    patches = PatchGrid(height, width, defense.dictionary.side, defense.stride).patches(image)
    details = (patches - patches.mean((3, 4), keepdim=True)).flatten(2)[0]
    asked = details[torch.linspace(0, len(details) - 1, count).long()].T.numpy()
    columns = defense.dictionary.atoms.flatten(1).T.numpy()
    return lambda: orthogonal_mp(columns, asked, n_nonzero_coefs=defense.sparsity), count / len(details)


def patch_dictionary(atoms: int, data: Path | None) -> PatchDictionary:
    """Patches of 100 images of 128 pixels."""
    images = to_uint8(load_images(128, 200, data).pixels[::2])
    per_image = 10 * atoms // len(images)
    drawn = (
        draw_patches(image, str(number), per_image, side=SIDE, seed=0, purpose="benchmark")
        for number, image in enumerate(images)
    )
    candidates = smallest_keys(drawn, 10 * atoms)[1]
    return PatchDictionary(choose_atoms(candidates, side=SIDE, atoms=atoms, similarity=SIMILARITY), digest="")


def _milliseconds(work: Callable[[], object]) -> float:
    """Of the processor, so that it does not count what else runs on the core."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


if __name__ == "__main__":
    main()
