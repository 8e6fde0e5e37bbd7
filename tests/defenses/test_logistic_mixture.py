import numpy as np
import pytest
import torch
from scipy.special import expit

from stl_ray.defenses.logistic_mixture import Mixtures, bounds_of, log_likelihood, scaled

LEVELS = torch.arange(256.0, dtype=torch.float64)


def numbers(*shape: int, size: float = 1.0) -> torch.Tensor:
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("size", [1.0, 6.0])
def test_identity_the_probabilities_of_all_levels_sum_to_one(size):
    mixtures = Mixtures.of(numbers(7, 30, size=size))
    before = [scaled(torch.tensor([0.0, 3, 80, 127, 200, 254, 255], dtype=torch.float64))] * 2
    for channel in range(3):
        likely = mixtures.log_probabilities(bounds_of(LEVELS.expand(7, 256)), channel, before[:channel])
        torch.testing.assert_close(likely.exp().sum(1), torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-9)


def test_agrees_with_differences_of_the_distribution_function():
    """Of two components, number by number, as the paper has it."""
    given = numbers(20)
    weights, means, log_scales, coefficients = np.split(given.numpy().reshape(10, 2), [1, 4, 7])
    level = np.array([200.0, 0.0, 255.0])
    red, green, _ = value = level / 127.5 - 1
    moved = means + np.stack(
        [
            0 * means[0],
            np.tanh(coefficients[0]) * red,
            np.tanh(coefficients[1]) * red + np.tanh(coefficients[2]) * green,
        ]
    )
    upper, lower = (expit((value[:, None] + half - moved) / np.exp(log_scales)) for half in (1 / 255, -1 / 255))
    upper[2], lower[1] = 1, 0  # level 255 goes on upwards, level 0 downwards
    share = np.exp(weights[0]) / np.exp(weights[0]).sum()
    expected = np.log(((upper - lower) * share).sum(1))
    np.testing.assert_allclose(log_likelihood(given, torch.from_numpy(level)).numpy(), expected, rtol=1e-9)


def test_invariant_a_channel_knows_those_before_it_alone():
    given, levels = numbers(30), torch.tensor([10.0, 120, 240], dtype=torch.float64)
    for changed in range(3):
        other = levels.clone()
        other[changed] -= 7
        moved = (log_likelihood(given, levels) != log_likelihood(given, other)).tolist()
        assert moved == [channel >= changed for channel in range(3)]


@pytest.mark.parametrize("mean", [-1e8, -60.0, 0.0, 60.0, 1e8])
@pytest.mark.parametrize("log_scale", [-50.0, 50.0])
def test_certificate_levels_that_are_all_but_impossible_stay_finite(mean, log_scale):
    given = torch.zeros(256, 10, 1)
    given[:, 1:4], given[:, 4:7] = mean, log_scale
    given = given.flatten(1).requires_grad_()
    likely = log_likelihood(given, torch.arange(256.0)[:, None].expand(256, 3))
    torch.autograd.backward(likely.sum())
    assert bool(likely.isfinite().all()) and bool(given.grad.isfinite().all())
