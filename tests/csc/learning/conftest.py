"""Codes of natural images, and what must hold of filters."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from stl_ray.config.spaces import DictionaryConfig
from stl_ray.csc import Codes, Dictionary, native, solve_cbpdn
from stl_ray.csc.learning import Block
from stl_ray.csc.learning.constraint import ConstraintSet

Blocks = Callable[..., list[Block]]


@pytest.fixture(scope="session")
def config() -> DictionaryConfig:
    """For the session's dictionary."""
    return DictionaryConfig(filters=24, size=8, lmbda=0.2)


@pytest.fixture(scope="session")
def blocks(natural_images: Tensor, config: DictionaryConfig) -> Blocks:
    """Natural images in blocks of these sizes; an image has the same id in all of them."""

    def make(*sizes: int, config: DictionaryConfig = config) -> list[Block]:
        parts = torch.split(torch.arange(sum(sizes)), sizes)
        return [
            Block([natural_images[i] for i in part], [f"image {i}" for i in part], config, seed=0) for part in parts
        ]

    return make


@pytest.fixture(scope="session")
def codes(highpass: Tensor, dictionary: Dictionary) -> Codes:
    """Of the first eight images."""
    return solve_cbpdn(highpass[:8], dictionary, 0.2)


@pytest.fixture
def needs_native() -> None:
    if not native.available():
        pytest.skip("the native core is not built")


@pytest.fixture(scope="session")
def assert_in_the_set() -> Callable[[Tensor, ConstraintSet], None]:
    def check(filters: Tensor, constraint: ConstraintSet) -> None:
        norms = filters.flatten(1 if constraint.norm == "joint" else 2).norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones_like(norms))
        assert not constraint.zero_mean or filters.mean((2, 3)).abs().max() < 1e-6

    return check


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set the number of torch's threads until the test's end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
