import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from stl_ray.config.spaces import AutoencoderConfig
from stl_ray.errors import TrainingError
from stl_ray.images import from_uint8
from stl_ray.metrics import psnr
from stl_ray.space import Autoencoder
from stl_ray.training.space.autoencoder import best_autoencoder, new_autoencoder, train_autoencoder
from stl_ray.training.space.denoising import PEAK

CONFIG = AutoencoderConfig(epochs=12, patience=12, batch_size=16, validation=0.2)


def train(thumbnails, config=CONFIG, *, seed=0, **keys):
    """All epochs of a new autoencoder."""
    return list(train_autoencoder(new_autoencoder(config.side, seed=seed), thumbnails, config, seed=seed, **keys))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def thumbs(natural_images):
    """(96, 3, 32, 32) uint8."""
    images = torch.cat([natural_images, natural_images.flip(3), natural_images.flip(2), 1 - natural_images])
    return (images * 255).round().to(torch.uint8)


@pytest.fixture(scope="module")
def epochs(thumbs):
    return train(thumbs)


def test_certificate_it_learns_and_denoises(epochs, thumbs):
    assert [epoch.epoch for epoch in epochs] == list(range(1, 13))
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert min(e.validation_loss for e in epochs) < epochs[0].validation_loss
    images = from_uint8(thumbs)
    flat = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    assert max(epoch.psnr for epoch in epochs) > psnr(flat, images).mean()
    assert all(epoch.images_per_second > 0 for epoch in epochs)


def test_certificate_noisy_psnr_is_that_of_the_noise(epochs):
    assert len({epoch.noisy_psnr for epoch in epochs}) == 1
    # Of noise that is not clipped; clipping at black and white takes some of it away.
    assert -20 * torch.tensor(0.15).log10() < epochs[0].noisy_psnr < 21


def test_identity_images_without_noise_count_for_8_bits(thumbs):
    (epoch,) = train(thumbs, CONFIG.model_copy(update={"epochs": 1, "noise": 0.0}))
    assert epoch.noisy_psnr == pytest.approx(PEAK) == pytest.approx(58.9, abs=0.03)


def test_agrees_with_steps_written_out(thumbs):
    """One batch per epoch without noise, against torch's own Adam on the plain loss."""
    config = CONFIG.model_copy(update={"epochs": 3, "noise": 0.0, "batch_size": 96})
    autoencoder, reference = (new_autoencoder(32, seed=0) for _ in range(2))
    batches: list[torch.Tensor] = []
    autoencoder.register_forward_pre_hook(lambda _, batch: batches.append(batch[0]))
    for network in (autoencoder, reference):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                # Batch norm follows: the gradient is zero but for rounding, of which Adam makes whole steps.
                layer.bias.requires_grad_(False)
    trained = [[each for each in network.parameters() if each.requires_grad] for network in (autoencoder, reference)]
    initial = [parameter.detach().clone() for parameter in trained[1]]
    optimizer = torch.optim.Adam(trained[1], lr=config.learning_rate)
    for epoch in train_autoencoder(autoencoder, thumbs, config, seed=0):
        training, held_out = batches[-2:]
        assert (len(training), len(held_out)) == (77, 19)
        expected = F.binary_cross_entropy(reference.train()(training), training)
        assert epoch.train_loss == pytest.approx(expected.item(), rel=1e-5)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        with torch.no_grad():
            denoised = reference.eval()(held_out)
        assert epoch.validation_loss == pytest.approx(F.binary_cross_entropy(denoised, held_out).item(), rel=1e-4)
        assert epoch.psnr == pytest.approx(psnr(denoised, held_out).mean().item(), rel=1e-4)
        for ours, theirs, before in zip(*trained, initial, strict=True):
            assert (ours - theirs).norm() <= 0.01 * (theirs - before).norm()


def test_identity_the_result_is_the_best_epoch(epochs, thumbs):
    images = from_uint8(thumbs)
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


def test_invariant_same_seed_same_bits_other_seed_others(epochs, thumbs):
    again = train(thumbs, CONFIG.model_copy(update={"epochs": 2}))
    other = next(train_autoencoder(new_autoencoder(32, seed=0), thumbs, CONFIG, seed=1))
    timeless = {"seconds": 0, "images_per_second": 0}
    for first, second in zip(epochs, again, strict=False):
        assert first.row() | timeless == second.row() | timeless
    assert same(epochs[1].state(), again[1].state())
    assert other.train_loss != epochs[0].train_loss


@pytest.mark.parametrize("stop", [1, 5])
def test_invariant_resumed_is_undisturbed_bit_for_bit(stop, epochs, thumbs, tmp_path):
    save_file(epochs[stop - 1].state(), tmp_path / "state.safetensors")
    state = load_file(tmp_path / "state.safetensors")
    other = new_autoencoder(32, seed=9)
    torch.rand(5)  # whatever else has drawn random numbers
    resumed = list(train_autoencoder(other, thumbs, CONFIG, seed=0, state=state))
    assert [epoch.epoch for epoch in resumed] == list(range(stop + 1, 13))
    assert same(resumed[-1].state(), epochs[-1].state())
    assert [e.validation_loss for e in resumed] == [e.validation_loss for e in epochs[stop:]]
    assert [e.best for e in resumed] == [e.best for e in epochs[stop:]]


def test_identity_patience_ends_it_resumed_or_not(thumbs):
    # A rate so large that the first epoch stays the best for a while.
    config = CONFIG.model_copy(update={"epochs": 30, "patience": 2, "learning_rate": 2.0})
    epochs = train(thumbs, config)
    assert len(epochs) < 30
    assert [epoch.best for epoch in epochs[-3:]] == [True, False, False]
    (last,) = train(thumbs, config, state=epochs[-2].state())  # the best epoch lies before the stop
    assert same(last.state(), epochs[-1].state())
    state = epochs[-1].state()
    assert train(thumbs, config, state=state) == []
    assert train(thumbs, CONFIG.model_copy(update={"epochs": len(epochs)}), state=state) == []
    assert same(best_autoencoder(state).state_dict(), epochs[-3].autoencoder().state_dict())


def test_identity_thumbnails_of_64(natural_images):
    thumbs = (F.interpolate(natural_images, size=(64, 64)) * 255).to(torch.uint8)
    (epoch,) = train(thumbs, CONFIG.model_copy(update={"side": 64, "epochs": 1}))
    assert epoch.autoencoder().side == 64
    with pytest.raises(TrainingError, match=r"state is not of this autoencoder; expected side 32; got 64"):
        train(thumbs[:, :, :32, :32], state=epoch.state())


def test_invariant_global_generators_are_left_alone(thumbs):
    before = torch.random.get_rng_state()
    train(thumbs, CONFIG.model_copy(update={"epochs": 1}))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_invariant_every_image_once_an_epoch_in_an_order_and_under_noise_of_its_own():
    config = CONFIG.model_copy(update={"epochs": 2, "noise": 0.001})
    thumbs = torch.arange(60, dtype=torch.uint8).mul(4).view(60, 1, 1, 1).expand(60, 3, 32, 32)  # each of its own grey
    autoencoder = new_autoencoder(32, seed=0)
    seen: list[torch.Tensor] = []
    autoencoder.register_forward_pre_hook(lambda _, batch: seen.extend(batch[0]))
    list(train_autoencoder(autoencoder, thumbs, config, seed=0))
    greys = [(255 / 4 * image.median()).round().int().item() for image in seen]
    training, held_out = greys[:48], greys[48:60]
    assert sorted(training + held_out) == list(range(60))
    assert sorted(greys[60:108]) == sorted(training) and greys[60:108] != training
    assert greys[108:] == held_out
    assert all(torch.equal(first, second) for first, second in zip(seen[48:60], seen[108:], strict=True))
    noise = {tuple((image - image.median()).flatten()[:9].tolist()) for image in seen}
    assert len(noise) == 48 + 12 + 48


def without_batch_norm() -> Autoencoder:
    autoencoder = new_autoencoder(32, seed=0)
    for block in (*autoencoder.encoder, *autoencoder.decoder[:3], autoencoder.decoder):
        position = next(i for i, layer in enumerate(block) if isinstance(layer, nn.BatchNorm2d))
        block[position] = nn.Identity()
    return autoencoder


def work(folder: Path, rank: int, world_size: int) -> None:
    """One worker of `world_size` that meet in `folder`, trained on its thumbnails; the outcomes are left there."""
    torch.set_num_threads(1)
    thumbs = load_file(folder / "data.safetensors")["thumbs"]
    config = CONFIG.model_copy(update={"epochs": 3})
    if world_size > 1:
        distributed.init_process_group(
            "gloo", f"file://{folder}/meeting", rank=rank, world_size=world_size, timeout=timedelta(seconds=120)
        )
    try:
        for name, model in {"whole": new_autoencoder(32, seed=0), "plain": without_batch_norm()}.items():
            wrapped = DistributedDataParallel(model) if world_size > 1 else model
            *_, last = train_autoencoder(wrapped, thumbs, config, seed=0, rank=rank, world_size=world_size)
            figures = torch.tensor([last.train_loss, last.validation_loss, last.psnr, last.noisy_psnr])
            save_file({**last.state(), "figures": figures}, folder / f"{name}-{rank}-of-{world_size}.safetensors")
    finally:
        if world_size > 1:
            distributed.destroy_process_group()


def test_agrees_two_workers_with_one(thumbs, tmp_path):
    save_file({"thumbs": thumbs[:95]}, tmp_path / "data.safetensors")  # an odd batch among them
    other = (
        "import os, runpy; from pathlib import Path; "
        f"runpy.run_path({__file__!r})['work'](Path({str(tmp_path)!r}), 1, 2); "
        "os._exit(0)"  # gloo's threads now and then abort an interpreter that ends in order
    )
    with subprocess.Popen([sys.executable, "-c", other]) as process:
        work(tmp_path, 0, 1)
        work(tmp_path, 0, 2)
        assert process.wait(timeout=120) == 0
    # Without batch norm the same sums in another order; with it each worker's own statistics of half the batch.
    for name, tolerance in (("plain", 1e-4), ("whole", 0.05)):
        one, first, second = (
            load_file(tmp_path / f"{name}-{worker}.safetensors") for worker in ("0-of-1", "0-of-2", "1-of-2")
        )
        assert same(first, second)
        torch.testing.assert_close(first["figures"], one["figures"], rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda thumbs: thumbs[:1], "too few images to train on; .* got 1 images, 1 of them held out"),
        (lambda thumbs: thumbs[:0], "too few images"),
        (lambda thumbs: thumbs[:, :, :16], r"\(N, 3, 32, 32\) torch.uint8; got \(96, 3, 16, 32\)"),
        (lambda thumbs: thumbs[:, :1], r"got \(96, 1, 32, 32\)"),
        (lambda thumbs: thumbs / 255, "torch.float32"),
    ],
)
def test_refuses_thumbnails_that_it_cannot_learn_from(change, message, thumbs):
    with pytest.raises(TrainingError, match=message):
        train(change(thumbs))


def test_refuses_more_workers_than_images_of_a_batch(thumbs):
    with pytest.raises(TrainingError, match="one for each of 3 workers in every batch"):
        train(thumbs[:5], CONFIG.model_copy(update={"batch_size": 2}), world_size=3)


def test_refuses_weights_that_are_not_finite(thumbs):
    autoencoder = new_autoencoder(32, seed=0)
    with torch.no_grad():
        autoencoder.encoder[1][0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"weights to start from are not finite; got encoder\.1\.0\.weight"):
        next(train_autoencoder(autoencoder, thumbs, CONFIG, seed=0))


def test_refuses_to_go_on_after_divergence(thumbs):
    with pytest.raises(TrainingError, match="epoch 1: the autoencoder diverged"):
        train(thumbs, CONFIG.model_copy(update={"learning_rate": 1e36}))


def test_refuses_another_model_s_state(epochs, thumbs):
    state = epochs[0].state()
    with pytest.raises(TrainingError, match="state is not of this autoencoder"):
        train(thumbs, state={**state, "model.encoder.0.0.weight": torch.zeros(1)})
    with pytest.raises(TrainingError, match="state is not of this autoencoder"):
        train(thumbs, state={})
