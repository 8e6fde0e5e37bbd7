import pytest
import torch

from stl_ray.attacks.fab import to_hyperplane


def case(seed: int, reach: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    points = torch.rand(6, 3, 5, 4, generator=draw, dtype=torch.float64)
    gradient = torch.randn(6, 3, 5, 4, generator=draw, dtype=torch.float64)
    side = torch.tensor([1.0, -1.0] * 3, dtype=torch.float64)
    return points, gradient, (gradient * points).flatten(1).sum(dim=1) + side * reach


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("reach", [0.5, 6.0])
def test_certificate_step_reaches_the_plane_within_the_box_and_no_shorter_one_does(norm, reach):
    points, gradient, offset = case(0, reach)
    step = to_hyperplane(points, gradient, offset, norm)
    reached = points + step
    assert bool(((reached >= -1e-12) & (reached <= 1 + 1e-12)).all())
    torch.testing.assert_close((gradient * reached).flatten(1).sum(dim=1), offset)
    # The optimum is clip(t v): entries inside the box share one t, all others are at their limit.
    direction = gradient * (offset - (gradient * points).flatten(1).sum(dim=1)).sign()[:, None, None, None]
    v = direction if norm == "l2" else direction.sign()
    room = torch.where(direction > 0, 1 - points, points)
    for row in range(6):
        scale = (step[row] / v[row])[(step[row].abs() < room[row] - 1e-9)]
        torch.testing.assert_close(scale, scale[0].expand_as(scale))
        assert bool((scale[0] * v[row].abs() >= step[row].abs() - 1e-9).all())


def test_identity_a_plane_beyond_the_box_gets_the_nearest_corner():
    points, gradient, offset = case(1, 1e3)
    step = to_hyperplane(points, gradient, offset, "l2")
    reached = points + step
    assert bool(((reached < 1e-9) | (reached > 1 - 1e-9)).all())


def test_identity_no_gradient_no_step():
    points, gradient, _ = case(2, 0.5)
    step = to_hyperplane(points, torch.zeros_like(gradient), torch.ones(6, dtype=torch.float64), "l2")
    assert not step.any()
