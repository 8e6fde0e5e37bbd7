"""Purification by diffusion on one core: time of an image, and time and memory of its gradient by recomputed steps beside
those of the whole graph, which is what torch does without checkpoints.

python -m benchmarks.defenses.diffusion
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.common.images import default_data, load_images
from benchmarks.common.memory import Growth
from benchmarks.common.processes import fresh_processes
from stl_ray.defenses.diffusion import TILE, Diffusion
from stl_ray.defenses.diffusion_denoiser import DiffusionDenoiser
from stl_ray.defenses.diffusion_process import LEVELS, alpha_bars
from stl_ray.defenses.diffusion_unet import UNet
from stl_ray.models import seeded

SIZE, START = 32, 100


def main() -> None:
    """Time a tile of images by each width, then measure both gradients, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defenses.diffusion", description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32], help="of the network (16 32)")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100], help="of the chain (10 100)")
    parser.add_argument("--turns", type=int, default=3, help="of which the median counts")
    options = parser.parse_args()
    print(f"{TILE} images of {SIZE} pixels, noise of level {START}; CPU ms an image, and MB that a tile grows by\n")
    print(
        "| width | weights | steps | ms | gradient, ms | whole graph, ms | times as slow | MB | whole graph, MB | less |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for width in options.widths:
        weights = sum(parameter.numel() for parameter in UNet(width).parameters())
        for steps in options.steps:
            each = [_apart(which, width, steps, options.turns) for which in ("purify", "recomputed", "whole")]
            (plain, _), (ours, small), (theirs, large) = each
            print(
                f"| {width} | {weights / 1e6:.2f} M | {steps} | {plain:.0f} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} "
                f"| {small:.0f} | {large:.0f} | {large / small:.1f} x |",
                flush=True,
            )


def _apart(which: str, width: int, steps: int, turns: int) -> tuple[float, float]:
    with fresh_processes(__name__).Pool(1) as pool:
        measured: tuple[float, float] = pool.apply(_measured, (which, width, steps, turns))
    return measured


def _measured(which: str, width: int, steps: int, turns: int) -> tuple[float, float]:
    """CPU milliseconds of an image, the median, and megabytes that the first turn needs."""
    torch.set_num_threads(1)
    images = load_images(SIZE, TILE, default_data()).pixels
    network = seeded(lambda: UNet(width), 0)
    defense = Diffusion(DiffusionDenoiser.trained(network.state_dict(), alpha_bars(LEVELS)), START, steps)
    works: dict[str, Callable[[Tensor], object]] = {
        "purify": lambda batch: defense.purify(batch, seeds=range(TILE)),
        "recomputed": lambda batch: defense.linearised("exact")(batch, range(TILE))[1](batch),
        "whole": lambda batch: _whole(defense, batch),
    }
    works[which](images[..., :8, :8])  # what libraries set up at their first call
    grown, taken = Growth(), []
    works[which](images)
    megabytes = grown.bytes() / 1e6
    for _ in range(turns):
        start = time.process_time()
        works[which](images)
        taken.append((time.process_time() - start) * 1e3 / TILE)
    return statistics.median(taken), megabytes


def _whole(defense: Diffusion, images: Tensor) -> Tensor:
    """The same gradient with all steps on torch's graph at once."""
    leaf = images.clone().requires_grad_()
    now = defense.begun(2 * leaf - 1, range(TILE))
    for level, lower in defense.chain:
        now = defense.step(now, range(TILE), level, lower)
    return torch.autograd.grad((now + 1) / 2, leaf, images)[0]


if __name__ == "__main__":
    main()
