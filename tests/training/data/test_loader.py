import pytest
import torch

from stl_ray.config import TrainConfig
from stl_ray.errors import InputError
from stl_ray.training import ImagesInMemory, Share
from stl_ray.training.data.loader import training_batches, validation_batches

CONFIG = TrainConfig(epochs=3, batch_size=16, crop_padding=2)


ALONE = Share()


def taken(images, config, share=ALONE, **options):
    return list(training_batches(images, config, share, seed=4, **options))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_invariant_every_image_once_an_epoch_over_all_ranks(toy, workers):
    shares = [taken(toy, CONFIG, Share(rank, workers)) for rank in range(workers)]
    for epoch in range(3):
        indices = [index for share in shares for batch in share if batch.epoch == epoch for index in batch.indices]
        assert sorted(indices) == list(range(60))
    for batches in zip(*shares, strict=True):
        assert len({(batch.epoch, batch.step, batch.size) for batch in batches}) == 1
        assert sum(len(batch.indices) for batch in batches) == batches[0].size == 15


def test_invariant_an_image_s_view_depends_on_neither_rank_nor_start(toy):
    config = CONFIG.model_copy(update={"random_resized_crop": 0.2, "rand_augment": 9})
    views = {
        (batch.epoch, index): view
        for batch in taken(toy, config)
        for index, view in zip(batch.indices, batch.images, strict=True)
    }
    for batches in (taken(toy, config, Share(1, 2)), taken(toy, config, start=(1, 2))):
        for batch in batches:
            for index, view in zip(batch.indices, batch.images, strict=True):
                assert torch.equal(view, views[batch.epoch, index])
    later = taken(toy, config, start=(1, 2))
    assert [(batch.epoch, batch.step) for batch in later] == [(e, s) for e in (1, 2) for s in range(4)][2:]
    assert [batch.indices for batch in later] == [batch.indices for batch in taken(toy, config)][6:]


def test_identity_the_loaders_leave_to_the_device_what_is_its_own(toy):
    for batch in taken(toy, CONFIG.model_copy(update={"augment_on": "device"})):
        assert torch.equal(batch.images, toy.images[batch.indices])


@pytest.mark.parametrize("workers", [1, 4])
def test_invariant_validation_sees_every_image_once_as_it_is(toy, workers):
    batches = [batch for rank in range(workers) for batch in validation_batches(toy, CONFIG, Share(rank, workers))]
    assert sorted(index for batch in batches for index in batch.indices) == list(range(60))
    for batch in batches:
        assert torch.equal(batch.images, toy.images[batch.indices])


class Broken(ImagesInMemory):
    def pixels(self, indices):
        if 33 in indices:
            raise InputError("broken", item="toy/33")
        return super().pixels(indices)


@pytest.mark.parametrize("loaders", [0, 1])
def test_refuses_with_the_error_that_a_loader_met(toy, loaders):
    broken = Broken(toy.images, toy.labels, toy.image_ids)
    with pytest.raises(InputError) as caught:
        taken(broken, CONFIG.model_copy(update={"loaders": loaders}))
    assert caught.value.item == "toy/33" and str(caught.value) == "toy/33: broken"
