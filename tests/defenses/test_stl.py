import pytest
import torch

from stl_ray.config import StlConfig
from stl_ray.csc import Dictionary
from stl_ray.defenses import make_defense
from stl_ray.images import quantize
from stl_ray.space import QuasiNaturalSpace


@pytest.fixture(scope="module")
def space() -> QuasiNaturalSpace:
    filters = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    filters = filters - filters.mean((2, 3), keepdim=True)
    return QuasiNaturalSpace.from_dictionary(
        Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], lmbda=0.1)
    )


@pytest.mark.parametrize("accuracy", ["default", "exact"])
@pytest.mark.parametrize("normalization", ["clip", "reference"])
def test_agrees_with_the_space_under_every_configuration(space, natural_images, accuracy, normalization):
    images = quantize(natural_images[:2, :, :16, :16])
    config = StlConfig(accuracy=accuracy, normalization=normalization)
    purified = make_defense("stl", {}, space=space, stl=config).purify(images)
    expected = space.project(images, accuracy=accuracy, normalization=normalization)
    assert torch.equal(purified.images, expected.images)
    assert torch.equal(purified.sparsity, expected.sparsity)
    assert purified.iterations.tolist() == expected.iterations.tolist()
    assert set(purified.status) == {"converged"}


def test_identity_counts_space_accuracy_and_normalization(space):
    other = QuasiNaturalSpace.from_dictionary(space.universal_dictionary, lmbda=0.3)
    identities = [
        make_defense("stl", {}, space=each, stl=config).identity()
        for each, config in (
            (space, StlConfig()),
            (other, StlConfig()),
            (space, StlConfig(accuracy="exact")),
            (space, StlConfig(normalization="reference")),
        )
    ]
    assert all(first != second for index, first in enumerate(identities) for second in identities[:index])
