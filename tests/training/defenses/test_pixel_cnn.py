import pytest
import torch

from stl_ray.defenses.pixel_cnn import FittedPixelCnn, PixelCnn, PixelCnnRecipe
from stl_ray.errors import TrainingError
from stl_ray.models import seeded
from stl_ray.seeding import seed_of
from stl_ray.training.defenses.networks import weights_of
from stl_ray.training.defenses.pixel_cnn import LEARNING_RATE, bits_per_dimension, falling, train_pixel_cnn

RECIPE = PixelCnnRecipe(width=6, layers=1, mixtures=2, epochs=4, batch_size=8, windows=24, side=16)


@pytest.fixture(scope="module")
def windows(natural_images) -> torch.Tensor:
    return (natural_images[:, :, 8:24, 8:24] * 255).round().byte()


def digest(epoch) -> str:
    return FittedPixelCnn.of(weights_of(epoch.state())).digest


def test_agrees_a_step_of_the_training_with_the_same_one_by_hand(windows):
    """One batch of all: then its order does not matter but for rounding."""
    recipe = RECIPE.model_copy(update={"epochs": 1, "batch_size": 24})
    (epoch,) = train_pixel_cnn(windows, recipe, seed=3)
    network = seeded(lambda: PixelCnn(6, 1, 2), seed_of(3, "pixel_cnn", "initial weights")).double()
    loss = bits_per_dimension(network, windows[2:])
    torch.autograd.backward(loss)
    assert epoch.train_loss == pytest.approx(float(loss.detach()), rel=1e-5)
    trained = weights_of(epoch.state())
    for name, weight in network.named_parameters():
        # Adam's first step: m / (1 - b1) is the gradient, v / (1 - b2) its square.
        step = LEARNING_RATE * weight.grad / (weight.grad.abs() + 1e-8)
        sure = weight.grad.abs() > 1e-4  # of smaller ones float32 knows neither sign nor share of 1e-8
        torch.testing.assert_close(
            trained[name].double()[sure], (weight.detach() - step)[sure], rtol=0, atol=1e-3 * LEARNING_RATE
        )
    network.load_state_dict(trained)
    assert epoch.validation_loss == pytest.approx(float(bits_per_dimension(network, windows[:2]).detach()), rel=1e-5)


def test_identity_bits_are_those_of_a_known_distribution(windows):
    """A network without weights says the same of every value: half of all below the middle, the rest above it."""
    network = PixelCnn(2, 1, 1).requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    network.output.bias[4:7] = 7  # as wide as it gets: what is not level 0 or 255 is next to impossible
    ends = torch.randint(2, (5, 3, 8, 8), dtype=torch.uint8) * 255
    assert float(bits_per_dimension(network, ends)) == pytest.approx(1, abs=2e-3)


def test_certificate_it_learns_more_than_how_frequent_levels_are(windows):
    recipe = RECIPE.model_copy(update={"epochs": 40, "batch_size": 3, "width": 8})
    first, *_, last = train_pixel_cnn(windows, recipe, seed=0)
    held_out, learned = windows[:2], windows[2:]
    counts = torch.stack([torch.bincount(learned[:, c].flatten().int(), minlength=256) for c in range(3)]) + 1.0
    shares = counts / counts.sum(1, keepdim=True)
    independent = -torch.stack([shares[c][held_out[:, c].int()].log2().mean() for c in range(3)]).mean()
    assert last.validation_loss < float(independent) - 0.5 < 8
    assert last.validation_loss < first.validation_loss


def test_invariant_training_that_goes_on_gives_the_same_bits(windows):
    state = torch.random.get_rng_state()
    whole = list(train_pixel_cnn(windows, RECIPE, seed=0))
    assert [epoch.epoch for epoch in whole] == [1, 2, 3, 4]
    resumed = list(train_pixel_cnn(windows, RECIPE, seed=0, state=whole[1].state()))
    assert [epoch.epoch for epoch in resumed] == [3, 4]
    for one, other in zip(whole[2:], resumed, strict=True):
        assert one.validation_loss == other.validation_loss and one.train_loss == other.train_loss
        assert all(torch.equal(tensor, other.state()[name]) for name, tensor in one.state().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({digest(epoch) for epoch in whole}) == 4
    assert digest(next(train_pixel_cnn(windows, RECIPE, seed=1))) != digest(whole[0])


def test_identity_the_rate_falls_to_nothing():
    assert [falling(0), falling(0.5), falling(1)] == pytest.approx([LEARNING_RATE, LEARNING_RATE / 2, 0])


def test_refuses_too_few_windows_and_the_state_of_another_network(windows):
    with pytest.raises(TrainingError, match=r"pixel_cnn: too few images to train on; expected 2 or more; got 1"):
        next(train_pixel_cnn(windows[:1], RECIPE, seed=0))
    state = next(train_pixel_cnn(windows, RECIPE.model_copy(update={"layers": 2}), seed=0)).state()
    with pytest.raises(TrainingError, match="the saved state is not of this network"):
        next(train_pixel_cnn(windows, RECIPE, seed=0, state=state))
