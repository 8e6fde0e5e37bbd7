import pytest
import torch

from stl_ray.config import TrainConfig
from stl_ray.training.data.augmentation import augment, crop_and_flip
from stl_ray.training.data.sizes import size_at

IDS = [f"image {i}" for i in range(24)]
FULL = TrainConfig(random_resized_crop=0.2, colour_jitter=0.3, rand_augment=9)


@pytest.fixture(scope="module")
def images(natural_images):
    return (natural_images * 255).byte()


def test_agrees_without_torchvision_s_part_with_the_padded_crop(images):
    config = TrainConfig(crop_padding=3)
    expected = crop_and_flip(images, IDS, seed=1, epoch=2, padding=3, flip=True)
    assert torch.equal(augment(images, IDS, config, seed=1, epoch=2), expected)


def test_invariant_depends_on_the_id_and_epoch_not_on_the_batch(images):
    before = torch.random.get_rng_state()
    together = augment(images, IDS, FULL, seed=1, epoch=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    shuffled = augment(images[order], [IDS[i] for i in order], FULL, seed=1, epoch=3)
    assert torch.equal(shuffled, together[order])
    for changed in (augment(images, IDS, FULL, seed=1, epoch=4), augment(images, IDS, FULL, seed=2, epoch=3)):
        assert sum(torch.equal(a, b) for a, b in zip(changed, together, strict=True)) == 0


def test_identity_what_each_key_does(images):
    plain = TrainConfig(crop_padding=0, flip=False)
    assert torch.equal(augment(images, IDS, plain, seed=0, epoch=0), images)
    whole = plain.model_copy(update={"random_resized_crop": 1.0})
    assert augment(images, IDS, whole, seed=0, epoch=0).shape == images.shape
    # Colours move, places do not: a grey ramp stays a ramp.
    ramp = torch.arange(32, dtype=torch.uint8).mul(7).expand(24, 3, 32, 32)
    jittered = augment(ramp, IDS, plain.model_copy(update={"colour_jitter": 0.5}), seed=0, epoch=0)
    assert not torch.equal(jittered, ramp)
    assert (jittered.int().diff(dim=-1) >= 0).all() and (jittered.diff(dim=-2) == 0).all()


def test_identity_sizes_grow_to_the_images_own():
    config = TrainConfig(epochs=20, start_size=128)
    sizes = [size_at(epoch, config, (224, 224))[0] for epoch in range(20)]
    assert sizes[0] == 128 and sizes[12:] == [224] * 8
    assert sizes == sorted(sizes) and all(size % 32 == 0 for size in sizes)
    assert size_at(0, config, (32, 32)) == (32, 32)
    assert size_at(0, TrainConfig(), (224, 200)) == (224, 200)


def test_identity_small_views_are_whole_views(images):
    config = TrainConfig(epochs=10, start_size=16, crop_padding=0, flip=False)
    small = augment(images, IDS, config, seed=0, epoch=0)
    assert small.shape == (24, 3, 16, 16)
    assert (small.float().mean((1, 2, 3)) - images.float().mean((1, 2, 3))).abs().max() < 2
