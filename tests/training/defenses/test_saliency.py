import torch

from stl_ray.models import build_classifier
from stl_ray.training.defenses.saliency import TILE, saliency_maps


def test_agrees_with_finite_differences_of_the_predicted_logit(natural_images):
    classifier = build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval().double()
    generator = torch.Generator().manual_seed(0)
    images = natural_images[:2].double()
    images = (
        images + 0.02 * torch.rand(images.shape, generator=generator).double()
    )  # nowhere flat, where maxima are shared
    maps = saliency_maps(classifier, images)
    predicted = classifier.logits(images).argmax(1)
    for row, column in ((0, 0), (13, 20), (31, 7)):
        slopes = []
        for channel in range(3):
            step = torch.zeros_like(images)
            step[:, channel, row, column] = 1e-6
            moved = (classifier.logits(images + step) - classifier.logits(images - step)) / 2e-6
            slopes.append(moved.gather(1, predicted[:, None])[:, 0].abs())
        torch.testing.assert_close(maps[:, row, column], torch.stack(slopes).amax(0), rtol=1e-4, atol=1e-9)


def test_invariant_a_map_is_of_its_image_alone(natural_images):
    classifier = build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()
    images = natural_images[: TILE + 3]
    whole = saliency_maps(classifier, images)
    assert whole.shape == (TILE + 3, 32, 32)
    assert float(whole.min()) >= 0 and float(whole.flatten(1).amax(1).min()) > 0
    for rows in ([5], [18, 2, 7]):
        assert torch.equal(saliency_maps(classifier, images[rows]), whole[rows])
