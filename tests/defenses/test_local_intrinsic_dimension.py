import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from stl_ray.defenses.local_intrinsic_dimension import local_intrinsic_dimension
from stl_ray.errors import TensorError


def by_the_authors(data: Tensor, batch: Tensor, k: int) -> np.ndarray:
    """Ma et al.'s estimate written anew in NumPy and SciPy, one point after the other."""
    estimates = []
    for row in cdist(batch.flatten(1).double().numpy(), data.flatten(1).double().numpy()):
        near = np.sort(row)[:k]
        estimates.append(-len(near) / sum(np.log(r / near[-1]) for r in near))
    return np.array(estimates)


@pytest.fixture
def clean() -> Tensor:
    return torch.randn(100, 4, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def attacked(clean) -> Tensor:
    return clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("neighbours", [1 + 1, 20, 99, 500])
def test_agrees_with_an_implementation_of_its_own(clean, attacked, neighbours):
    expected = torch.from_numpy(by_the_authors(clean, attacked, neighbours))
    torch.testing.assert_close(local_intrinsic_dimension(attacked, clean, neighbours), expected)


def test_identity_a_case_by_hand():
    # Distances 1, 2, 4: minus the mean of log(1/4), log(2/4), log(1) is log 2.
    line = torch.tensor([[1.0], [-2.0], [4.0], [5.0]])
    estimate = local_intrinsic_dimension(torch.zeros(1, 1), line, neighbours=3)
    assert estimate.tolist() == pytest.approx([1 / np.log(2)])


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_agrees_with_the_dimension_of_a_subspace(dimension):
    generator = torch.Generator().manual_seed(2)
    inside = torch.rand(4000, dimension, generator=generator)
    points = torch.cat([inside, torch.zeros(4000, 30)], dim=1)
    centre = ((inside - 0.5).abs() < 0.25).all(1).nonzero()[:50, 0]
    others = points.index_fill(0, centre, 9)
    estimate = local_intrinsic_dimension(points[centre], others, neighbours=100).mean()
    # One estimate from k distances deviates by d / sqrt(k), a mean of 50 by much less; 10 % leaves room for the edges.
    assert estimate.item() == pytest.approx(dimension, rel=0.1)


def test_invariant_a_point_alone_in_a_batch_and_in_another_order(clean, attacked):
    whole = local_intrinsic_dimension(attacked, clean)
    for rows in ([5], [7, 3, 0], list(range(30))):
        assert torch.equal(local_intrinsic_dimension(attacked[rows], clean), whole[rows])
    assert torch.equal(local_intrinsic_dimension(attacked, clean.flip(0)), whole)


def test_identity_neighbours_at_the_point_and_equally_far():
    points = torch.tensor([[0.0, 0.0]])
    around = torch.tensor([[0.0, -1], [1, 0], [0, 1], [-1, 0]])
    assert local_intrinsic_dimension(points, around).tolist() == [torch.inf]
    assert local_intrinsic_dimension(points, torch.zeros(5, 2)).tolist() == [0]
    assert local_intrinsic_dimension(points, torch.cat([points, around, 2 * around])).tolist() == [0]


@pytest.mark.parametrize("where", ["apart", "at a point", "alike"])
def test_agrees_the_derivative_with_finite_differences(clean, attacked, where):
    clean, leaf = clean[:30].double(), attacked[:4].double()
    if where == "at a point":
        leaf[0] = clean[3]
    if where == "alike":
        clean = clean[:1].expand(30, -1, -1, -1)
    leaf.requires_grad_()
    (product,) = torch.autograd.grad(local_intrinsic_dimension(leaf, clean, 8).nan_to_num(posinf=0).sum(), leaf)
    assert product.isfinite().all()
    direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(3)).double()
    if where == "apart":
        ahead, behind = (local_intrinsic_dimension(leaf + step * direction, clean, 8) for step in (1e-6, -1e-6))
        torch.testing.assert_close(
            (product * direction).flatten(1).sum(1), (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-6
        )
    else:
        assert not product[0].any()


@pytest.mark.parametrize("shape", [(100, 4, 3), (1, 4, 3, 3), (0, 4, 3, 3)])
def test_refuses_a_minibatch_of_another_layer_or_too_few(attacked, shape):
    with pytest.raises(TensorError, match=r"expected at least 2 of \(4, 3, 3\)"):
        local_intrinsic_dimension(attacked, torch.zeros(shape))
