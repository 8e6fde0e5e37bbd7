"""A natural dictionary and a natural high band that need no download."""

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, split_bands
from stl_ray.csc.learning.constraint import ConstraintSet

LMBDA = 0.2


@pytest.fixture(scope="session")
def highpass(natural_images: Tensor) -> Tensor:
    """(24, 3, 32, 32) float32."""
    return split_bands(natural_images)[1]


@pytest.fixture(scope="session")
def dictionary(highpass: Tensor) -> Dictionary:
    """24 filters of 8 x 8, patches of the high band."""
    windows = highpass.unfold(2, 8, 1).unfold(3, 8, 1).transpose(1, 3).flatten(0, 2)
    patches = windows[ConstraintSet().textured(windows)]
    drawn = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))[:24]
    return Dictionary(ConstraintSet().project(patches[drawn]), LMBDA)


@pytest.fixture(scope="session")
def small() -> tuple[Tensor, Dictionary]:
    """Two float64 high bands (2, 3, 13, 10) and six random filters of 4 x 4."""
    generator = torch.Generator().manual_seed(1)
    filters = torch.randn((6, 3, 4, 4), generator=generator)
    unit = filters / filters.flatten(1).norm(dim=1)[:, None, None, None]
    return torch.randn((2, 3, 13, 10), generator=generator, dtype=torch.float64) / 3, Dictionary(unit, LMBDA)
