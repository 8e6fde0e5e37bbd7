import pytest
import torch

from stl_ray.errors import TensorError
from stl_ray.models import Victim, build_classifier, predict, tile_size


class LargestChannel:
    """A victim that shows the batch sizes it was called with."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def logits(self, images):
        self.sizes.append(len(images))
        return images.mean(dim=(2, 3))

    def logits_and_vjp(self, images, cotangent):
        raise NotImplementedError


def test_identity_predictions_are_the_largest_logits(natural_images):
    victim = LargestChannel()
    assert isinstance(victim, Victim)
    many = natural_images.repeat(8, 1, 1, 1)[:180]
    assert torch.equal(predict(victim, many), many.mean(dim=(2, 3)).argmax(dim=1))
    assert victim.sizes == [16] * 12  # 180 images in full tiles


def test_invariant_alone_together_and_shuffled(natural_images):
    classifier = build_classifier("small_cnn", [str(i) for i in range(10)], seed=3).eval()
    together = predict(classifier, natural_images)
    alone = torch.cat([predict(classifier, image[None]) for image in natural_images])
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert len(together.unique()) > 1
    assert torch.equal(together, alone)
    assert torch.equal(together[order], predict(classifier, natural_images[order]))


def test_identity_tiles_shrink_with_the_image():
    sides = (8, 32, 128, 224, 1024)
    assert [tile_size(side, side, torch.device("cpu")) for side in sides] == [16, 16, 16, 16, 8]
    assert [tile_size(side, side, torch.device("cuda")) for side in sides] == [512, 512, 256, 83, 16]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_refuses_logits_that_are_not_finite_and_counts_the_images(value, natural_images):
    images = natural_images.clone()
    images[[2, 7, 20], 1, 0, 0] = value  # the largest channel of three images
    with pytest.raises(TensorError, match="not finite for 3 of 24 images"):
        predict(LargestChannel(), images)


def test_refuses_a_classifier_with_nan_weights(natural_images):
    classifier = build_classifier("small_cnn", ["a", "b"], seed=0).eval()
    with torch.no_grad():
        classifier.backbone[-1].bias[1] = torch.nan
    with pytest.raises(TensorError, match="not finite for 24 of 24 images"):
        predict(classifier, natural_images)
