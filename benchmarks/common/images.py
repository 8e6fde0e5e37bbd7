"""Natural images and the dictionaries that fit them, for benchmarks.

`data` is a folder, one of these:

    cifar10/test-*.parquet, imagenet10/val-*.parquet    images of 32 pixels come from the first, others from the second
    any pictures (.png, .jpg, .jpeg, .webp), at any depth

and None stands for crops of scikit-image's photographs. Images are resized as the authors' script does it: to a square,
bilinear without antialiasing, in 8 bits. Clean ones and noisy ones take turns; the noise is a random sign in every
pixel, at the L2 dissimilarity of the paper's FGSM-0.08.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from stl_ray.config.spaces import DictionaryConfig
from stl_ray.csc import Dictionary
from stl_ray.csc.learning import Block
from stl_ray.csc.learning.constraint import ConstraintSet

NOISE = 0.08
"""L2 dissimilarity of the noisy images before they are clipped to [0, 1] and rounded."""

LMBDA = 0.2
"""The reference's l1 weight, for which its dictionaries were learned too."""

_SEED = 0


@dataclass(frozen=True)
class Images:
    """Images of one size with a dictionary.

    Attributes:
        pixels: (N, 3, size, size) float32 RGB in [0, 1], on the 8-bit grid; those with an odd index are noisy.
        source: where they come from, in words.
        dictionary: learned on images like them, where the data folder has one.
        dictionary_source: in words.
    """

    pixels: Tensor
    source: str
    dictionary: Dictionary
    dictionary_source: str


def default_data() -> Path | None:
    """$STL_RAY_DATA, or ../shared/data beside the repository where that exists."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    named = os.environ.get("STL_RAY_DATA")
    return Path(named) if named else (beside if beside.is_dir() else None)


def load_images(size: int, count: int, data: Path | None, dictionary: Path | None = None) -> Images:
    """`count` different images of size x size, always the same ones in the same order.

    Raises:
        SystemExit: there are not so many, with what was looked for.
    """
    if data is None:
        clean, source = _photographs(size, count), "crops of scikit-image's photographs"
    else:
        clean, source = _from_folder(size, count, data)
    if len(clean) < count:
        raise SystemExit(
            f"{count} images of {size} pixels are needed, {source} has {len(clean)}: pass --images or --data"
        )
    pixels = _with_noise(torch.stack(clean))
    return Images(pixels, source, *dictionary_for(size, data, dictionary, pixels))


def _from_folder(size: int, count: int, data: Path) -> tuple[list[Tensor], str]:
    table, source = ("cifar10/test-*.parquet", "CIFAR-10 test") if size == 32 else _IMAGENET
    for path in sorted(data.glob(table)):
        column = pq.read_table(path, columns=["image"])["image"]
        rows = np.random.default_rng(_SEED).permutation(len(column))[:count]
        return [square(column[int(row)]["bytes"].as_py(), size) for row in rows], source
    pictures = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    rows = np.random.default_rng(_SEED).permutation(len(pictures))[:count]
    return [square(pictures[int(row)].read_bytes(), size) for row in rows], f"pictures of the folder {data.name}"


_IMAGENET = ("imagenet10/val-*.parquet", "ImageNet validation, ten classes")


def square(content: bytes, size: int) -> Tensor:
    """An encoded image as (3, size, size) in [0, 1], resized as the authors' script does it."""
    levels = torch.from_numpy(np.array(Image.open(BytesIO(content)).convert("RGB"))).permute(2, 0, 1)
    return _resized(levels, size)


def _resized(levels: Tensor, size: int) -> Tensor:
    """(3, H, W) uint8 -> (3, size, size) float32 in [0, 1], as `cv2.resize` with its defaults."""
    if levels.shape[1:] == (size, size):
        return levels.float() / 255
    scaled = torch.nn.functional.interpolate(levels[None].float(), size=(size, size), mode="bilinear")
    return scaled[0].round() / 255


def _photographs(size: int, count: int) -> list[Tensor]:
    from skimage import data

    def crops() -> Iterator[Tensor]:
        photographs = [getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]
        generator = np.random.default_rng(_SEED)
        for index in range(count):
            photograph = photographs[index % len(photographs)]
            side = int(generator.integers(size, min(4 * size, *photograph.shape[:2])))
            top, left = (int(generator.integers(0, extent - side)) for extent in photograph.shape[:2])
            window = photograph[top : top + side, left : left + side]
            yield _resized(torch.from_numpy(window.copy()).permute(2, 0, 1), size)

    return list(crops())


def _with_noise(clean: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(_SEED)
    images = clean.clone()
    for image in images[1::2]:
        sign = torch.randint(2, image.shape, generator=generator) * 2.0 - 1
        noisy = image + sign * (NOISE * image.norm() / image.numel() ** 0.5)
        image.copy_((noisy.clamp(0, 1) * 255).round() / 255)
    return images


def authors_file(data: Path, folder: str) -> Path:
    """Where the authors' dictionary of "basis_cifar", "basis_64" or "basis_224" is, if the data has it."""
    return data / "reference" / "dictionaries" / folder / f"64_p8_lm{LMBDA:g}.npy"


def dictionary_for(size: int, data: Path | None, named: Path | None, pixels: Tensor) -> tuple[Dictionary, str]:
    """The dictionary of a file, else the authors' for that size, else patches of some images; and what it is, in words.

    Args:
        size: pixels.
        data: folder that may hold reference/dictionaries.
        named: a file like the authors'.
        pixels: (N, 3, H, W) float32 in [0, 1].
    """
    if named is not None:
        return Dictionary.from_reference(named), named.name
    if data is not None and (data / "reference" / "dictionaries").is_dir():
        folder = {32: "basis_cifar", 64: "basis_64"}.get(size, "basis_224")
        return Dictionary.from_reference(authors_file(data, folder), LMBDA), f"the authors' {folder}"
    names = [str(number) for number in range(len(pixels))]
    patches = Block(list(pixels), names, DictionaryConfig(), seed=_SEED).patches(-(-256 // len(pixels)))
    drawn = torch.randperm(len(patches), generator=torch.Generator().manual_seed(_SEED))[:64]
    return Dictionary(ConstraintSet().project(patches[drawn]), LMBDA), "64 patches of the images, nothing learned"
