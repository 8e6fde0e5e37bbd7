import pytest
import torch
import torch.nn.functional as F

from stl_ray.config.sections import AutoencoderConfig
from stl_ray.errors import TrainingError
from stl_ray.metrics import psnr
from stl_ray.training import train_autoencoder

CONFIG = AutoencoderConfig(epochs=12, patience=12, batch_size=16, validation=0.2)


@pytest.fixture(scope="module")
def images(natural_images):
    return torch.cat([natural_images, natural_images.flip(3), natural_images.flip(2), 1 - natural_images])


@pytest.fixture(scope="module")
def epochs(images):
    return list(train_autoencoder(images, CONFIG, seed=0))


def test_certificate_it_learns_and_denoises(epochs, images):
    assert [epoch.epoch for epoch in epochs] == list(range(1, 13))
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert min(e.validation_loss for e in epochs) < epochs[0].validation_loss
    flat = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    assert max(epoch.psnr for epoch in epochs) > psnr(flat, images).mean()


def test_identity_the_result_is_the_best_epoch(epochs, images):
    losses = [epoch.validation_loss for epoch in epochs]
    assert [epoch.best for epoch in epochs] == [loss < min([2.0, *losses[:i]]) for i, loss in enumerate(losses)]
    best = max(epoch.epoch for epoch in epochs if epoch.best)
    autoencoder = epochs[-1].autoencoder()
    assert not autoencoder.training
    for epoch in epochs[best - 1 :]:
        assert torch.equal(epoch.autoencoder().encode(images), autoencoder.encode(images))
    assert not torch.equal(epochs[0].autoencoder().encode(images), autoencoder.encode(images))
    with torch.no_grad():
        loss = F.binary_cross_entropy(autoencoder(images), images).item()
    assert abs(loss - losses[best - 1]) < 0.05


def test_invariant_same_seed_same_bits_other_seed_others(epochs, images):
    again = list(train_autoencoder(images, CONFIG.model_copy(update={"epochs": 2}), seed=0))
    other = next(train_autoencoder(images, CONFIG, seed=1))
    for first, second in zip(epochs, again, strict=False):
        assert first.row() | {"seconds": 0} == second.row() | {"seconds": 0}
    state = epochs[1].autoencoder().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in again[1].autoencoder().state_dict().items())
    assert other.train_loss != epochs[0].train_loss


def test_identity_patience_ends_it(images):
    # A rate so large that the first epoch stays the best for a while.
    config = CONFIG.model_copy(update={"epochs": 30, "patience": 2, "learning_rate": 2.0})
    epochs = list(train_autoencoder(images, config, seed=0))
    assert len(epochs) < 30
    assert [epoch.best for epoch in epochs[-3:]] == [True, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images[:1], "N >= 2"),
        (lambda images: images[:, :, :16], "32, 32"),
        (lambda images: images * 255, "numbers in"),
        (lambda images: images.index_fill(0, torch.tensor([3]), torch.nan), "numbers in"),
    ],
)
def test_refuses_images_that_it_cannot_learn_from(change, message, images):
    with pytest.raises(TrainingError, match=message):
        next(train_autoencoder(change(images), CONFIG, seed=0))


def test_refuses_to_go_on_after_divergence(images):
    config = CONFIG.model_copy(update={"learning_rate": 1e36})
    with pytest.raises(TrainingError, match="diverged"):
        list(train_autoencoder(images, config, seed=0))
