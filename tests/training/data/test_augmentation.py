import pytest
import torch
import torch.nn.functional as F

from stl_ray.errors import TrainingError
from stl_ray.training.data.augmentation import crop_and_flip

IDS = [f"image {i}" for i in range(24)]


def crops_of(image: torch.Tensor, padding: int) -> list[torch.Tensor]:
    """Every crop of the reflection-padded image and its mirror image."""
    height, width = image.shape[-2:]
    padded = F.pad(image[None], (padding,) * 4, mode="reflect")[0]
    corners = [(i, j) for i in range(2 * padding + 1) for j in range(2 * padding + 1)]
    crops = [padded[:, i : i + height, j : j + width] for i, j in corners]
    return crops + [crop.flip(2) for crop in crops]


def test_agrees_with_crops_of_the_padded_image(natural_images):
    images = natural_images[:, :, :20]  # not square
    seen = set()
    for epoch in range(4):
        shifted = crop_and_flip(images, IDS, seed=0, epoch=epoch, padding=2, flip=True)
        assert shifted.shape == images.shape
        for image, crop in zip(images, shifted, strict=True):
            matches = [i for i, candidate in enumerate(crops_of(image, 2)) if torch.equal(candidate, crop)]
            assert matches
            seen.add(matches[0])
    # 96 draws from 50: all four corners' rows and columns and both mirror states turn up.
    assert len(seen) > 30
    assert {i % 25 // 5 for i in seen} == {i % 5 for i in seen} == set(range(5))
    assert any(i < 25 for i in seen) and any(i >= 25 for i in seen)


def test_invariant_depends_on_the_id_not_on_the_batch(natural_images):
    def run(images, ids):
        return crop_and_flip(images, ids, seed=1, epoch=3, padding=4, flip=True)

    together = run(natural_images, IDS)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(run(natural_images[order], [IDS[i] for i in order]), together[order])
    assert torch.equal(run(natural_images[5:6], IDS[5:6]), together[5:6])
    other_epoch = crop_and_flip(natural_images, IDS, seed=1, epoch=4, padding=4, flip=True)
    assert not torch.equal(other_epoch, together)


def test_identity_no_padding_and_no_flip(natural_images):
    images = (natural_images * 255).byte()
    assert torch.equal(crop_and_flip(images, IDS, seed=0, epoch=0, padding=0, flip=False), images)
    mirrored = crop_and_flip(images, IDS, seed=0, epoch=0, padding=0, flip=True)
    flipped = [torch.equal(image, source.flip(2)) for image, source in zip(mirrored, images, strict=True)]
    assert mirrored.dtype == torch.uint8 and 4 <= sum(flipped) <= 20


def test_refuses_padding_as_large_as_the_image(natural_images):
    with pytest.raises(TrainingError, match="< 32"):
        crop_and_flip(natural_images, IDS, seed=0, epoch=0, padding=32, flip=False)
