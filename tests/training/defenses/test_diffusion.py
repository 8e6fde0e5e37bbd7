import pytest
import torch

from stl_ray.defenses.diffusion_denoiser import DenoiserRecipe
from stl_ray.defenses.diffusion_process import alpha_bars
from stl_ray.defenses.diffusion_unet import UNet
from stl_ray.errors import TrainingError
from stl_ray.models import seeded
from stl_ray.seeding import seed_of
from stl_ray.training.defenses.diffusion import WARMUP, Draws, denoiser_of, train_diffusion

RECIPE = DenoiserRecipe(width=8, levels=150, epochs=4, batch_size=8, learning_rate=0.02, windows=24, side=16)


@pytest.fixture(scope="module")
def windows(natural_images) -> torch.Tensor:
    return (natural_images[:, :, :16, :16] * 255).round().byte()


def generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, "diffusion", purpose))


def test_agrees_a_step_of_the_training_with_the_same_one_by_hand(windows):
    """Of one window, so that there is no order; the other is held out."""
    recipe = RECIPE.model_copy(update={"epochs": 1})
    (epoch,) = train_diffusion(windows[:2], recipe, seed=3)
    network = seeded(lambda: UNet(8), seed_of(3, "diffusion", "initial weights"))
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    draw = generator(3, "noise of epoch 1")
    level = int(torch.randint(150, (1,), generator=draw))
    noise = torch.randn(1, 3, 16, 16, generator=draw)
    window = windows[1:2].flip(3) if float(torch.rand(1, generator=draw)) < 0.5 else windows[1:2]
    kept = float(alpha_bars(150)[level])
    noisy = kept**0.5 * (window / 127.5 - 1) + (1 - kept) ** 0.5 * noise
    loss = (network(noisy, torch.tensor([level + 1])) - noise).square().mean()
    torch.autograd.backward(loss)
    assert epoch.train_loss == pytest.approx(float(loss.detach()), rel=1e-4)
    norm = torch.stack([weight.grad.norm() for weight in network.parameters()]).norm()
    assert norm > 1
    clip, rate, decay = 1 / norm, 0.02 / WARMUP, 2 / 11
    state = epoch.state()
    average = denoiser_of(state, recipe).weights
    for name, weight in network.named_parameters():
        gradient = weight.grad * clip
        moved = before[name] - rate * gradient / (gradient.abs() + 1e-8)  # Adam's first step
        torch.testing.assert_close(state[f"optimizer.exp_avg.{name}"], 0.1 * gradient, rtol=1e-3, atol=1e-6)
        # Where the gradient is rounding alone, its sign is too.
        sure = gradient.abs() > 1e-6
        expected = decay * before[name] + (1 - decay) * moved
        torch.testing.assert_close(average[name][sure], expected[sure], rtol=0, atol=2e-6)


def test_identity_windows_and_noise_are_mixed_at_every_level(windows):
    """What a network sees, by one that says what it was given."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Silent(torch.nn.Module):
        def forward(self, noisy, levels):
            seen.append((noisy, levels))
            return torch.zeros_like(noisy)

    grey = torch.full((4000, 3, 4, 4), 255, dtype=torch.uint8)
    loss = Draws(150, "cpu").loss(Silent(), grey, torch.Generator().manual_seed(0), mirrored=True)
    ((noisy, levels),) = seen
    assert float(loss) == pytest.approx(1, abs=0.03)  # of 192,000 squares of normal numbers
    assert (int(levels.min()), int(levels.max())) == (1, 150)
    assert torch.bincount(levels)[1:].float().std() < 3 * (4000 / 150) ** 0.5
    kept = alpha_bars(150)[levels - 1].float()
    noise = (noisy - kept.sqrt()[:, None, None, None]) / (1 - kept).sqrt()[:, None, None, None]
    assert abs(float(noise.mean())) < 0.01 and float(noise.std()) == pytest.approx(1, abs=0.01)


def test_invariant_training_that_goes_on_gives_the_same_bits(windows):
    state = torch.random.get_rng_state()
    whole = list(train_diffusion(windows, RECIPE, seed=0))
    assert [epoch.epoch for epoch in whole] == [1, 2, 3, 4]
    resumed = list(train_diffusion(windows, RECIPE, seed=0, state=whole[1].state()))
    assert [epoch.epoch for epoch in resumed] == [3, 4]
    for one, other in zip(whole[2:], resumed, strict=True):
        assert one.validation_loss == other.validation_loss and one.train_loss == other.train_loss
        assert all(torch.equal(tensor, other.state()[name]) for name, tensor in one.state().items())
    assert list(train_diffusion(windows, RECIPE, seed=0, state=whole[-1].state())) == []
    assert torch.equal(torch.random.get_rng_state(), state)
    digests = {denoiser_of(epoch.state(), RECIPE).digest for epoch in whole}
    assert len(digests) == 4
    (*_, other) = train_diffusion(windows, RECIPE, seed=1)
    assert denoiser_of(other.state(), RECIPE).digest not in digests


def test_invariant_both_losses_fall_and_held_out_windows_teach_nothing(windows):
    recipe = RECIPE.model_copy(update={"epochs": 20})
    epochs = list(train_diffusion(windows, recipe, seed=0))
    assert epochs[-1].train_loss < 0.6 * epochs[0].train_loss
    assert epochs[-1].validation_loss < 0.8 * epochs[0].validation_loss
    altered = windows.clone()
    altered[0] = 0  # 2 % of 24 windows
    (*_, other) = train_diffusion(altered, recipe, seed=0)
    assert denoiser_of(other.state(), recipe).digest == denoiser_of(epochs[-1].state(), recipe).digest
    assert other.validation_loss != epochs[-1].validation_loss


def test_refuses_too_few_windows_and_the_state_of_another_network(windows):
    with pytest.raises(TrainingError, match=r"diffusion: too few images to train on; expected 2 or more; got 1"):
        next(train_diffusion(windows[:1], RECIPE, seed=0))
    wide = RECIPE.model_copy(update={"width": 16})
    state = next(train_diffusion(windows, wide, seed=0)).state()
    with pytest.raises(TrainingError, match="the saved state is not of this denoiser"):
        next(train_diffusion(windows, RECIPE, seed=0, state=state))
