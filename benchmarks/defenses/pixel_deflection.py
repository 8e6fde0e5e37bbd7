"""Pixel deflection and wavelet denoising, a batch on one core, beside a loop over pixels and scikit-image.

python -m benchmarks.defenses.pixel_deflection
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.restoration import denoise_wavelet
from torch import Tensor

from benchmarks.common.images import default_data, load_images
from stl_ray.defenses.deflection import deflected
from stl_ray.defenses.wavelets import denoised

DEFLECTIONS, WINDOW, SIGMA = 200, 10, 0.04


def one_by_one(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Deflect (H, W, 3) as published: a pixel at a time, offsets drawn until one lies inside."""
    image = image.copy()
    height, width, channels = image.shape
    left = DEFLECTIONS
    while left > 0:
        for channel in range(channels):
            x, y = random.randint(0, height - 1), random.randint(0, width - 1)
            while True:
                a, b = random.randint(-WINDOW, WINDOW), random.randint(-WINDOW, WINDOW)
                if 0 < x + a < height and 0 < y + b < width:
                    break
            image[x, y, channel] = image[x + a, y + b, channel]
            left -= 1
    return image


def by_scikit_image(image: NDArray[np.float32]) -> object:
    """Denoise (H, W, 3) by the library of today, with the scale of sigma that is nearest to that of 2018."""
    return denoise_wavelet(image, sigma=SIGMA, convert2ycbcr=True, rescale_sigma=True, channel_axis=-1)


def all_deflected(images: Tensor) -> Tensor:
    """The same deflection of a batch, by ours."""
    return deflected(images, range(len(images)), DEFLECTIONS, WINDOW)


STEPS: dict[str, tuple[Callable[[Tensor], object], Callable[[NDArray[np.float32]], object]]] = {
    "deflection": (all_deflected, one_by_one),
    "wavelets": (partial(denoised, sigma=SIGMA), by_scikit_image),
}
"""Ours on a batch, and the original on an image."""


def main() -> None:
    """Time both steps at both sizes, ours and the original in turns."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defenses.pixel_deflection", description=__doc__)
    parser.add_argument("--images", type=int, default=32, help="in the batch")
    parser.add_argument("--turns", type=int, default=7, help="of which the median counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| step | size | ours, CPU ms an image | original, CPU ms an image | times as fast |\n|---|---|---|---|---|")
    for size in (32, 224):
        images = load_images(size, options.images, default_data()).pixels
        arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
        for step, (ours, original) in STEPS.items():
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(options.turns + 1):
                times[0].append(_milliseconds(partial(ours, images)))
                times[1].append(_milliseconds(partial(_each, original, arrays)))
            mine, theirs = (statistics.median(turns[1:]) / len(images) for turns in times)
            print(f"| {step} | {size} | {mine:.3f} | {theirs:.3f} | {theirs / mine:.1f} |", flush=True)


def _each(original: Callable[[NDArray[np.float32]], object], arrays: list[NDArray[np.float32]]) -> None:
    for array in arrays:
        original(array)


def _milliseconds(work: Callable[[], object]) -> float:
    """Of the processor, so that it does not count what else runs on the core."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


if __name__ == "__main__":
    main()
