"""A small set of images that a classifier can learn: bright, dark and striped."""

import pytest
import torch

from stl_ray.models import Classifier, build_classifier
from stl_ray.training import ImagesInMemory

CLASS_NAMES = ["bright", "dark", "striped"]


@pytest.fixture(scope="session")
def toy() -> ImagesInMemory:
    """60 images of 16 pixels, noise of three kinds."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    stripes = 80.0 * (torch.arange(16) % 2 - 0.5)
    level = torch.tensor([160.0, 90.0, 125.0])[labels][:, None, None, None]
    pattern = (labels == 2)[:, None, None, None] * stripes
    images = level + pattern + 40 * torch.randn((60, 3, 16, 16), generator=generator)
    return ImagesInMemory(images.clamp(0, 255).byte(), labels, [f"toy/{i:02d}" for i in range(60)])


@pytest.fixture
def classifier() -> Classifier:
    return build_classifier("small_cnn", CLASS_NAMES, seed=0)
