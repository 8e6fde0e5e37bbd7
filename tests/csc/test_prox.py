import pytest
import torch

from stl_ray.csc.prox import clip, soft_threshold


@pytest.mark.parametrize("threshold", [0.1, 1.0])
def test_identity_moreau(threshold: float) -> None:
    v = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(soft_threshold(v, threshold) + clip(v, threshold), v, rtol=0, atol=1e-15)


def test_certificate_no_grid_point_is_better() -> None:
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    for value in (-2.0, -0.31, 0.0, 0.29, 0.3, 1.7):
        v = torch.tensor([value], dtype=torch.float64)

        def cost(x: torch.Tensor, v: torch.Tensor = v) -> torch.Tensor:
            return (x - v).square() / 2 + 0.3 * x.abs()

        assert cost(soft_threshold(v, 0.3)) <= cost(grid).min() + 1e-15


def test_invariant_zeros_are_exact() -> None:
    assert soft_threshold(torch.tensor([0.299, -0.3, 0.1]), 0.3).tolist() == [0, 0, 0]
