import torch
from torch import Tensor

from stl_ray.csc import Dictionary, operator_of
from stl_ray.csc.certificate import duality_gap, objective
from stl_ray.csc.operator import ConvolutionOperator
from stl_ray.csc.prox import soft_threshold

LMBDA = 0.2


def identity_operator() -> ConvolutionOperator:
    delta = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    delta[0, 0, 0, 0] = 1
    return ConvolutionOperator(delta, 9, 9)


def test_certificate_is_zero_exactly_at_a_closed_form_optimum() -> None:
    operator = identity_operator()
    s = torch.randn((2, 1, 9, 9), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    optimum = soft_threshold(s, LMBDA)
    assert duality_gap(optimum, s, operator, LMBDA).abs().max() < 1e-12
    assert duality_gap(optimum * 1.01, s, operator, LMBDA).min() > 1e-5


def test_certificate_bounds_the_distance_to_the_optimum(small: tuple[Tensor, Dictionary]) -> None:
    s, dictionary = small
    operator = operator_of(dictionary, s.shape[2], s.shape[3], s.dtype, s.device)
    candidates = [soft_threshold(operator.adjoint(s) * step, LMBDA * step) for step in (0.02, 0.05, 0.1, 0.2)]
    values = torch.stack([objective(x, s, operator, LMBDA) for x in candidates])
    best = values.amin(0)
    for x, value in zip(candidates, values, strict=True):
        gap = duality_gap(x, s, operator, LMBDA)
        assert (gap > 0).all()
        assert ((value - best) / value <= gap).all()


def test_identity_objective_of_the_empty_code(small: tuple[Tensor, Dictionary]) -> None:
    s, dictionary = small
    operator = operator_of(dictionary, s.shape[2], s.shape[3], s.dtype, s.device)
    empty = torch.zeros(2, 6, 13, 10, dtype=torch.float64)
    torch.testing.assert_close(objective(empty, s, operator, LMBDA), s.square().sum((1, 2, 3)) / 2)


def test_identity_a_black_image_has_no_gap() -> None:
    zeros = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    assert duality_gap(zeros, zeros, identity_operator(), LMBDA).tolist() == [0]
