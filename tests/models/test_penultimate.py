import torch
from torch import nn

from stl_ray.models import build_classifier, penultimate


class NoLinear(nn.Module):
    """Three classes by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3)

    def logits(self, images):
        with torch.no_grad():
            return self.layer(images).mean((2, 3))


def test_agrees_with_the_layers_in_front_of_the_last_one(natural_images):
    for name in ("small_cnn", "cifar_resnet20", "vgg16_small"):
        classifier = build_classifier(name, ["a", "b", "c"], seed=0).eval()
        features = penultimate(classifier, natural_images)
        *_, last = (layer for layer in classifier.modules() if isinstance(layer, nn.Linear))
        torch.testing.assert_close(last(features), classifier.logits(natural_images))


def test_invariant_features_of_an_image_do_not_depend_on_its_batch(natural_images):
    classifier = build_classifier("small_cnn", ["a", "b"], seed=0).eval()
    whole = penultimate(classifier, natural_images)
    assert torch.equal(penultimate(classifier, natural_images[5:9]), whole[5:9])


class Gated(NoLinear):
    """A linear layer with as many outputs as there are classes, which does not give the logits; tokens pass it one by one."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.gate = nn.Linear(3, 3)
        self.tokens = tokens

    def logits(self, images):
        with torch.no_grad():
            means = images.flatten(2)[:, :, : self.tokens].transpose(1, 2).reshape(-1, 3)
            gates = self.gate(means).sigmoid().view(len(images), -1, 3).mean(1)
            return super().logits(images) * gates


def test_identity_a_layer_that_does_not_give_the_logits_is_none(natural_images):
    for tokens in (1, 4):
        assert penultimate(Gated(tokens).eval(), natural_images) is None


def test_identity_a_network_without_a_last_linear_layer_has_none(natural_images):
    assert penultimate(NoLinear().eval(), natural_images) is None
