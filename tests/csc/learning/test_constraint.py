import pytest
import torch
from torch import Tensor

from stl_ray.csc.learning.constraint import ConstraintSet

SETS = [ConstraintSet(norm, zero_mean) for norm in ("joint", "per_channel") for zero_mean in (True, False)]


def random_filters(seed: int) -> Tensor:
    return torch.randn((7, 3, 5, 5), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("constraint", SETS, ids=str)
def test_identity_projection_is_the_nearest_member(constraint: ConstraintSet, assert_in_the_set) -> None:
    filters = random_filters(0)
    projected = constraint.project(filters)
    assert_in_the_set(projected, constraint)
    torch.testing.assert_close(constraint.project(projected), projected)
    for seed in range(1, 6):
        other = constraint.project(projected + 0.1 * random_filters(seed))
        assert ((filters - projected).flatten(1).norm(dim=1) <= (filters - other).flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("constraint", SETS, ids=str)
def test_identity_centre_is_a_linear_projection(constraint: ConstraintSet) -> None:
    """The curvature of the objective is that within the centred filters: centre is symmetric and idempotent."""
    one, other = (random_filters(seed).double() for seed in (0, 1))
    centred = constraint.centre(one)
    torch.testing.assert_close(constraint.centre(centred), centred)
    torch.testing.assert_close((centred * other).sum(), (one * constraint.centre(other)).sum())


def test_invariant_textured_patches_become_filters() -> None:
    patches = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4), *random_filters(0)[:2, :, :4, :4]])
    patches[3, 1] = 0.5  # one flat channel
    expected = {
        ("joint", True): [False, False, True, True],
        ("joint", False): [False, True, True, True],
        ("per_channel", True): [False, False, True, False],
        ("per_channel", False): [False, True, True, True],
    }
    for constraint in SETS:
        textured = constraint.textured(patches)
        assert textured.tolist() == expected[constraint.norm, constraint.zero_mean]
        assert constraint.project(patches[textured]).isfinite().all()
