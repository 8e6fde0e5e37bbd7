import pytest
import torch

from stl_ray.defenses.magnet_autoencoder import Autoencoder, AutoencoderRecipe, MagnetAutoencoder
from stl_ray.errors import TrainingError
from stl_ray.models import seeded
from stl_ray.seeding import seed_of
from stl_ray.training.defenses.magnet import train_magnet, with_noise
from stl_ray.training.defenses.networks import weights_of

RECIPE = AutoencoderRecipe(width=3, noise=0.1, epochs=4, batch_size=8, windows=24, side=32)


def digest(epoch) -> str:
    return MagnetAutoencoder.of(weights_of(epoch.state())).digest


@pytest.fixture(scope="module")
def windows(natural_images) -> torch.Tensor:
    return (natural_images * 255).round().byte()


def test_agrees_a_step_of_the_training_with_the_same_one_by_hand(windows):
    """One batch of all: then its order does not matter but for rounding."""
    recipe = RECIPE.model_copy(update={"epochs": 1, "batch_size": 24})
    (epoch,) = train_magnet(windows, recipe, seed=3)
    network = seeded(lambda: Autoencoder(3), seed_of(3, "magnet", "initial weights")).double()
    clean, noisy = windows[2:].double() / 255, with_noise(windows[2:], 0.1, seed=3).double()
    loss = (network(noisy) - clean).square().mean()
    torch.autograd.backward(loss)
    assert epoch.train_loss == pytest.approx(float(loss.detach()), rel=1e-5)
    trained = weights_of(epoch.state())
    for name, weight in network.named_parameters():
        # Adam's first step: m / (1 - b1) is the gradient, v / (1 - b2) its square.
        step = 1e-3 * weight.grad / (weight.grad.abs() + 1e-8)
        torch.testing.assert_close(trained[name].double(), weight.detach() - step, rtol=0, atol=1e-6)
    network.load_state_dict(trained)
    held_out = windows[:2].double() / 255
    assert epoch.validation_loss == pytest.approx(
        float((network(held_out) - held_out).detach().square().mean()), rel=1e-5
    )


def test_identity_noise_is_gaussian_and_clipped(windows):
    grey, white = (
        torch.full((24, 3, 32, 32), 128, dtype=torch.uint8),
        torch.full((2, 3, 32, 32), 255, dtype=torch.uint8),
    )
    noise = with_noise(grey, 0.1, seed=0) - 128 / 255
    assert abs(float(noise.mean())) < 2e-3 and float(noise.std()) == pytest.approx(0.1, rel=0.02)  # of 74k draws
    assert float(with_noise(white, 0.1, seed=0).max()) == 1
    assert torch.equal(with_noise(grey, 0.1, seed=0), with_noise(grey, 0.1, seed=0))
    assert not torch.equal(with_noise(grey, 0.1, seed=0), with_noise(grey, 0.1, seed=1))


def test_invariant_training_that_goes_on_gives_the_same_bits(windows):
    state = torch.random.get_rng_state()
    whole = list(train_magnet(windows, RECIPE, seed=0))
    assert [epoch.epoch for epoch in whole] == [1, 2, 3, 4]
    assert whole[-1].validation_loss < whole[0].validation_loss and whole[-1].train_loss < whole[0].train_loss
    resumed = list(train_magnet(windows, RECIPE, seed=0, state=whole[1].state()))
    assert [epoch.epoch for epoch in resumed] == [3, 4]
    for one, other in zip(whole[2:], resumed, strict=True):
        assert one.validation_loss == other.validation_loss and one.train_loss == other.train_loss
        assert all(torch.equal(tensor, other.state()[name]) for name, tensor in one.state().items())
    assert list(train_magnet(windows, RECIPE, seed=0, state=whole[-1].state())) == []
    assert torch.equal(torch.random.get_rng_state(), state)
    digests = {digest(epoch) for epoch in whole}
    assert len(digests) == 4
    (*_, other) = train_magnet(windows, RECIPE, seed=1)
    assert digest(other) not in digests


def test_invariant_held_out_windows_teach_nothing(windows):
    altered = windows.clone()
    altered[:2] = 0
    (*_, one), (*_, other) = (train_magnet(images, RECIPE, seed=0) for images in (windows, altered))
    assert digest(one) == digest(other)
    assert one.validation_loss != other.validation_loss


def test_refuses_too_few_windows_and_the_state_of_another_network(windows):
    with pytest.raises(TrainingError, match=r"magnet: too few images to train on; expected 2 or more; got 1"):
        next(train_magnet(windows[:1], RECIPE, seed=0))
    assert len(list(train_magnet(windows[:2], RECIPE, seed=0))) == 4
    wide = RECIPE.model_copy(update={"width": 5})
    state = next(train_magnet(windows, wide, seed=0)).state()
    with pytest.raises(TrainingError, match="the saved state is not of this network"):
        next(train_magnet(windows, RECIPE, seed=0, state=state))
