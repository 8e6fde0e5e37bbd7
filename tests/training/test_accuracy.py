import torch

from stl_ray.training import accuracy


class Reddest:
    """Class 0 where the red channel is the strongest, and so on."""

    def logits(self, images):
        assert images.min() >= 0 and images.max() <= 1
        return images.mean(dim=(2, 3))

    def logits_and_vjp(self, images, cotangent):
        raise NotImplementedError


def test_identity_counts_over_many_tiles():
    labels = torch.arange(300) % 3
    images = torch.full((300, 3, 8, 8), 10, dtype=torch.uint8)
    images[torch.arange(300), labels] = 255
    wrong = labels.clone()
    wrong[:60] = (wrong[:60] + 1) % 3
    assert accuracy(Reddest(), images, labels) == 1.0
    assert accuracy(Reddest(), images, wrong) == 0.8
