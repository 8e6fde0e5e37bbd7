import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from stl_ray.defenses.diffusion_process import LEVELS, alpha_bars, denoised, drawn, fresh_share, noised, strided


def test_agrees_the_schedule_with_its_product_and_its_closed_form():
    kept, product = alpha_bars(LEVELS), Fraction(1)
    for level, alpha_bar in enumerate(kept.tolist(), start=1):
        beta = Fraction(1, 10_000) + (level - 1) * Fraction(199, 10_000) / 999
        product = (product * (1 - beta)).limit_denominator(10**24)
        assert alpha_bar == pytest.approx(float(product), rel=1e-12)
        # The variance-preserving SDE's exp(-integral of beta, from 0.1 to 20): equal but for the sum of beta^2 / 2, at most 0.07.
        time = level / LEVELS
        assert alpha_bar == pytest.approx(math.exp(-0.1 * time - 9.95 * time**2), rel=0.08)
    assert torch.equal(alpha_bars(7), kept[:7])


@pytest.mark.parametrize(("start", "steps"), [(1, 1), (100, 100), (100, 7), (1000, 1), (9, 8)])
def test_identity_steps_lead_from_the_start_to_zero(start, steps):
    chain = strided(start, steps)
    assert len(chain) == steps and chain[0][0] == start and chain[-1][1] == 0
    assert all(before[1] == after[0] for before, after in pairwise(chain))
    lengths = [level - lower for level, lower in chain]
    assert 1 <= min(lengths) <= max(lengths) <= min(lengths) + 1


def test_agrees_a_step_to_the_next_level_with_ddpm_as_it_is_written():
    """Ho et al. 2020, equations 7 and 11: a mean and the variance of the posterior."""
    generator = torch.Generator().manual_seed(0)
    noisy, noise = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64).chunk(2)
    kept = [1.0, *alpha_bars(LEVELS).tolist()]
    for level in (1, 2, 50, 1000):
        now, lower = kept[level], kept[level - 1]
        beta = 1 - now / lower
        mean = (noisy - beta / math.sqrt(1 - now) * noise) / math.sqrt(1 - beta)
        sigma = fresh_share(now, lower, 1.0)
        assert sigma**2 == pytest.approx((1 - lower) / (1 - now) * beta, rel=1e-9)
        torch.testing.assert_close(denoised(noisy, noise, now, lower, sigma), mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_identity_a_step_by_the_true_noise_ends_at_the_lower_level(eta):
    """x_s is sqrt(a_s) x_0 and noise of the variance 1 - a_s, whatever share of it is fresh; at level 0 it is x_0."""
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64).chunk(2)
    kept = alpha_bars(LEVELS)
    for level, lower in ((1000, 700), (100, 90), (5, 4)):
        now, after = float(kept[level - 1]), float(kept[lower - 1])
        sigma = fresh_share(now, after, eta)
        made = denoised(noised(clean, noise, now), noise, now, after, sigma)
        left = made - math.sqrt(after) * clean
        torch.testing.assert_close(left, math.sqrt(1 - after - sigma**2) * noise, rtol=1e-6, atol=1e-9)
        assert fresh_share(now, 1.0, eta) == 0
        torch.testing.assert_close(denoised(noised(clean, noise, now), noise, now, 1.0, 0), clean, rtol=1e-9, atol=1e-9)


def test_identity_noise_is_normal_and_of_the_seed_alone():
    images = torch.zeros(3, 3, 64, 64)
    noise = drawn(images, [1, 2, 1])
    assert torch.equal(noise[0], noise[2]) and not torch.equal(noise[0], noise[1])
    assert abs(float(noise.mean())) < 0.03 and float(noise.std()) == pytest.approx(1, abs=0.03)  # of 24k draws
    assert torch.equal(drawn(images.double(), [1, 2, 1]), noise.double())
