"""Total variation minimisation beside scikit-image's split Bregman iterations, from which its published code was made."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from skimage.restoration import denoise_tv_bregman
from torch import Tensor

from benchmarks.common.images import load_images
from benchmarks.defenses.measure import Contestant, take_turns
from benchmarks.defenses.page import Comparison
from stl_ray.defenses.split_bregman import SplitBregman
from stl_ray.defenses.tvm import TotalVariation, TvmOptions

IMAGES = {32: 128, 224: 8}
"""Images of a batch."""

WEIGHT = 0.03

_LIMIT = 1e-5
"""Root mean square change at which a result counts as the limit."""

_TEXT = (
    "`tvm` is what the defense does: half of the values dropped, ten sweeps an iteration, until an iteration changes an image by "
    "0.01, root mean square. scikit-image has no missing pixels, so the solver is compared with it where nothing is missing: "
    "the same penalty and weight, one sweep an iteration, and the tolerance of ours set so that it ends as near to its own limit "
    "(a change of 1e-5) as scikit-image with its default tolerance to its own. Quality is that distance, root mean square over "
    "all pixels, in units of the range of the pixels. scikit-image takes one image at a time, in float32. \"As many sweeps\" is "
    "scikit-image with as many sweeps as `tvm` takes on average: each has a shrinkage too, of which `tvm` and its published code "
    "have one in ten sweeps, so that this is an upper bound for that code's time."
)  # fmt: skip


def compare(sizes: list[int], rounds: int, data: Path | None, images: int | None) -> Comparison:
    """Measure at every size.

    Args:
        sizes: pixels.
        rounds: of turns.
        data: folder of images; None: photographs of scikit-image.
        images: of a batch; None: `IMAGES`.
    """
    timings, source = {}, ""
    for size in sizes:
        count = images or IMAGES.get(size, max(8, 128 * 32 * 32 // size**2))
        loaded = load_images(size, 2 * count, data)
        timings[size] = take_turns(_contestants(loaded.pixels[::2].contiguous()), rounds)
        source += f"{'; ' if source else ''}{size} px: {count} images, {loaded.source}"
    return Comparison("tvm", _TEXT, source, timings)


def _contestants(pixels: Tensor) -> list[Contestant]:
    count, seeds = len(pixels), range(len(pixels))
    defense = TotalVariation(TvmOptions())
    sweeps = sweeps_of(defense, pixels, seeds)
    arrays = list(pixels.permute(0, 2, 3, 1).contiguous().numpy())
    distance = _distance(by_scikit_image(arrays), by_scikit_image(arrays, eps=_LIMIT, max_num_iter=2000))
    nothing_missing = torch.ones_like(pixels, dtype=torch.bool)
    method, ours = _as_near(pixels, nothing_missing, distance)
    linearised = defense.linearised("exact")

    def product() -> None:
        linearised(pixels, seeds)[1](pixels)

    peer, longer = "scikit-image", "scikit-image, as many sweeps"
    return [
        Contestant(peer, count, lambda: by_scikit_image(arrays), f"{distance:.1e}"),
        Contestant(
            "the solver of tvm, nothing missing",
            count,
            lambda: method.solve(pixels, nothing_missing),
            f"{ours:.1e}",
            peer,
        ),
        Contestant(longer, count, lambda: by_scikit_image(arrays, eps=0, max_num_iter=sweeps), f"{sweeps} sweeps"),
        Contestant("tvm", count, lambda: defense.purify(pixels, seeds=seeds), f"{sweeps} sweeps", longer),
        Contestant("tvm and its gradient", count, product, f"{sweeps} sweeps, and back", longer),
    ]


def by_scikit_image(arrays: list[np.ndarray], **arguments: float) -> Tensor:
    """Images (H, W, 3) by scikit-image, one after the other, as (B, 3, H, W)."""
    results = [denoise_tv_bregman(image, weight=1 / WEIGHT, channel_axis=-1, **arguments) for image in arrays]
    return torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2)


def _as_near(pixels: Tensor, kept: Tensor, distance: float) -> tuple[SplitBregman, float]:
    """The solver with the largest tolerance of a row that ends as near to its limit, and how near that is."""
    method = SplitBregman(weight=WEIGHT, sweeps=1, tolerance=_LIMIT, max_iterations=2000)
    limit = method.solve(pixels, kept)
    for tolerance in (1e-3 * 0.9**step for step in range(-20, 40)):
        method = replace(method, tolerance=tolerance)
        found = _distance(method.solve(pixels, kept), limit)
        if found <= distance:
            break
    return method, found


def _distance(found: Tensor, limit: Tensor) -> float:
    return float((found - limit).square().mean().sqrt())


def sweeps_of(defense: TotalVariation, pixels: Tensor, seeds: Sequence[int]) -> int:
    """Sweeps of the defense, on average: an image goes on while one iteration more changes what comes out."""
    final = defense.purify(pixels, seeds=seeds).images
    iterations = 1.0
    for count in range(1, defense.options.max_iterations):
        stopped = replace(defense, options=defense.options.model_copy(update={"max_iterations": count}))
        on = (stopped.purify(pixels, seeds=seeds).images != final).flatten(1).any(1)
        if not bool(on.any()):
            break
        iterations += float(on.float().mean())
    return round(iterations * defense.options.sweeps)
