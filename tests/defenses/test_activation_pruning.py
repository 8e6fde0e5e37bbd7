"""The pruning of one layer: the distribution, the equation, and what becomes of odd activations."""

import bisect

import numpy as np
import pytest
import torch

from stl_ray.defenses.activation_pruning import prune, prune_each

PRUNINGS = [prune, prune_each]


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def activations() -> torch.Tensor:
    return torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).relu()


@pytest.mark.parametrize("draws", [0.1, 1.0, 2.5])
def test_agrees_with_the_authors_loop(activations, draws):
    """Draw by draw in Python, as the authors' operator does it, from the same uniform numbers."""
    pruned = prune(activations, draws, generators(7, 8, 9))
    for image, seed, got in zip(activations, (7, 8, 9), pruned, strict=True):
        act = image.flatten().tolist()
        p = [value / sum(act) for value in act]
        steps = np.cumsum(p).tolist()
        r = int(draws * len(act))
        expected = [0.0] * len(act)
        for u in torch.rand(r, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist():
            index = bisect.bisect_right(steps, u)
            expected[index] = act[index] / (1 - (1 - p[index]) ** r)
        torch.testing.assert_close(got.flatten(), torch.tensor(expected, dtype=torch.float64))


def test_agrees_each_with_athalye_s_formula(activations):
    signed = activations - 0.3
    pruned = prune_each(signed, 2.0, generators(7, 8, 9))
    for image, seed, got in zip(signed.numpy(), (7, 8, 9), pruned, strict=True):
        r = image.ravel()
        p_keep = 1 - np.exp(-r.size * 2 * np.abs(r) / np.abs(r).sum())
        keep = torch.rand(r.size, generator=torch.Generator().manual_seed(seed)).numpy() < p_keep
        expected = keep * r / (p_keep + 1e-8)
        torch.testing.assert_close(got.flatten(), torch.from_numpy(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize("pruning", PRUNINGS)
def test_agrees_how_often_an_activation_is_kept_with_its_probability(pruning, activations):
    """So that the mean over passes is the activation, which is divided by this probability."""
    passes, drawn, r = 4000, generators(1, 2, 3), 120
    kept = torch.stack([pruning(activations, 1.0, drawn) != 0 for _ in range(passes)]).double().mean(0)
    p = activations / activations.sum((1, 2, 3), keepdim=True)
    expected = 1 - (1 - p) ** r if pruning is prune else 1 - torch.exp(-r * p)
    # Standard errors: of 360 shares one is 5 off in about 5,000 runs.
    assert bool(((kept - expected).abs() <= 5 * (expected * (1 - expected) / passes).sqrt() + 1e-12).all())


@pytest.mark.parametrize("pruning", PRUNINGS)
def test_invariant_an_image_s_draws_are_its_own(pruning, activations):
    whole = pruning(activations, 1.0, generators(5, 6, 7))
    assert torch.equal(pruning(activations[[2, 0]], 1.0, generators(7, 5)), whole[[2, 0]])
    assert not torch.equal(pruning(activations, 1.0, generators(5, 6, 8))[2], whole[2])
    channels_last = activations.contiguous(memory_format=torch.channels_last)
    assert torch.equal(pruning(channels_last, 1.0, generators(5, 6, 7)), whole)


@pytest.mark.parametrize("pruning", PRUNINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "values",
    [[0.0] * 6, [0.0, 0.0, 3.0, 0.0, 0.0, 0.0], [1.0] * 6, [1e-38, 0, 1, 1, 1, 1], [1e30, 1, 1, 1, 1, 1], [2.0]],
    ids=["zero", "one of six", "equal", "tiny", "huge", "a single one"],
)
def test_certificate_odd_activations_stay_finite(pruning, dtype, values):
    activations = torch.tensor([values], dtype=dtype, requires_grad=True)
    pruned = pruning(activations, 1.0, generators(0))
    (gradient,) = torch.autograd.grad(pruned.sum(), activations)
    assert pruned.dtype == dtype
    assert bool(pruned.isfinite().all()) and bool(gradient.isfinite().all())
    assert bool((pruned[activations == 0] == 0).all())


def test_identity_an_activation_that_is_alone_passes_unchanged():
    activations = torch.tensor([[0.0, 3.0, 0.0]], requires_grad=True)
    pruned = prune(activations, 1.0, generators(0))
    (gradient,) = torch.autograd.grad(pruned.sum(), activations)
    assert pruned.tolist() == [[0, 3, 0]] and gradient[0, 1] == 1


@pytest.mark.parametrize("pruning", PRUNINGS)
def test_identity_nan_is_not_pruned_away(pruning):
    activations = torch.tensor([[1.0, torch.nan, 2.0, 3.0]])
    assert bool(pruning(activations, 1.0, generators(0)).isnan().any())


@pytest.mark.parametrize("pruning", PRUNINGS)
def test_agrees_the_gradient_with_finite_differences(pruning, activations):
    step, r = 1e-7, torch.Generator().manual_seed(1)
    signed = activations + 0.05 * torch.randn(activations.shape, generator=r, dtype=torch.float64)
    v, direction = (torch.randn(signed.shape, generator=r, dtype=torch.float64) for _ in range(2))

    def value(at: torch.Tensor) -> torch.Tensor:
        return (v * pruning(at, 1.0, generators(5, 6, 7))).sum()

    leaf = signed.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    difference = (value(signed + step * direction) - value(signed - step * direction)) / (2 * step)
    assert difference.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-5)
    # With the scale held, as in the authors' operator, the product would be another.
    held = (v * direction * pruning(signed, 1.0, generators(5, 6, 7)) / signed).sum().item()
    assert difference.item() != pytest.approx(held, rel=1e-2)
