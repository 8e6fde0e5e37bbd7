"""A small victim, trained in seconds, and 8-bit images for the attack tests."""

import pytest
import torch
from torch.nn import functional

from stl_ray.images import quantize
from stl_ray.models import Classifier, build_classifier


@pytest.fixture(scope="session")
def images(natural_images) -> torch.Tensor:
    return quantize(natural_images)


@pytest.fixture(scope="session")
def labels() -> torch.Tensor:
    return torch.arange(3).repeat_interleave(8)


@pytest.fixture(scope="session")
def victim(images, labels) -> Classifier:
    """A classifier that is right on all images of these tests."""
    classifier = build_classifier("small_cnn", ["astronaut", "coffee", "chelsea"], seed=0)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=3e-3)
    for _ in range(30):
        optimiser.zero_grad()
        functional.cross_entropy(classifier(images), labels).backward()
        optimiser.step()
    optimiser.zero_grad()
    classifier.channels_last = False  # the memory layout of the peer libraries, and so their rounding
    return classifier.eval()
