import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stl_ray.defenses.robust_cam import robust_cam
from stl_ray.errors import ConfigError, StlRayError
from stl_ray.models import Classifier, build_classifier

NAMES = [str(index) for index in range(7)]


def named(architecture: str) -> Classifier:
    return build_classifier(architecture, NAMES, seed=0).eval()


def own(backbone: nn.Module) -> Classifier:
    return Classifier(backbone, architecture="mine", class_names=NAMES).eval()


def by_hand(features: torch.Tensor, weight: torch.Tensor, logits: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """The map of one image of features (C, h, w): class by class in the order of its logits, then enlarged and scaled."""
    total = torch.zeros(features.shape[1:])
    for rank, index in enumerate(logits.argsort(descending=True)[:5].tolist(), start=1):
        total += torch.einsum("c,chw->hw", weight[index], features) / 2**rank
    enlarged = F.interpolate(total[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    return (enlarged - enlarged.min()) / (enlarged.max() - enlarged.min())


@pytest.mark.parametrize(
    ("architecture", "last", "linear"),
    [
        ("small_cnn", "10", "13"),
        ("cifar_resnet20", "layer3", "linear"),
        ("resnet18_small", "layer4", "fc"),
        ("torchvision:mobilenet_v2", "features", "classifier.1"),
    ],
)
def test_agrees_with_maps_of_layers_by_name(architecture, last, linear, natural_images):
    classifier, images = named(architecture), F.interpolate(natural_images[:3], 64)
    kept: list[torch.Tensor] = []
    hook = classifier.backbone.get_submodule(last).register_forward_hook(lambda module, given, made: kept.append(made))
    logits = classifier.logits(images)
    hook.remove()
    weight = classifier.backbone.get_submodule(linear).weight.detach()
    maps = robust_cam(classifier, images)
    for row in range(3):
        expected = by_hand(kept[0][row], weight, logits[row], images.shape[-2:])
        torch.testing.assert_close(maps[row], expected, rtol=0, atol=1e-4)


class Residual(nn.Module):
    """Somebody's own, whose last features are the output of no module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3, padding=1)
        self.other, self.fc = nn.Linear(8, 8), nn.Linear(8, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = F.relu(x + self.second(x) * torch.sigmoid(self.other(x.mean((2, 3))))[:, :, None, None])
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def test_identity_a_network_of_a_users_own(natural_images):
    torch.manual_seed(0)
    network = own(Residual())
    maps = robust_cam(network, natural_images)
    assert maps.shape == (24, 32, 32)
    torch.testing.assert_close(maps.amin((1, 2)), torch.zeros(24))
    torch.testing.assert_close(maps.amax((1, 2)), torch.ones(24))


def test_identity_the_map_is_bright_where_the_class_is_seen():
    """Of a network whose one feature is red, and whose likely class is redness."""
    network = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 7))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
        network[3].weight.copy_(torch.linspace(1, 0, 7)[:, None])
        network[3].bias.zero_()
    image = torch.full((1, 3, 16, 16), 0.6)
    image[0, 0, 4:8, 8:16] = 1
    maps = robust_cam(own(network), image)
    torch.testing.assert_close(maps[0], (image[0, 0] == 1).float())
    assert not bool(robust_cam(own(network), torch.full((1, 3, 16, 16), 0.6)).any())  # without relief


def test_invariant_nothing_of_the_classifier_changes_and_images_are_alone(natural_images):
    classifier = named("small_cnn")
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    whole = robust_cam(classifier, natural_images)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert not classifier.training
    assert not any(module._forward_hooks for module in classifier.modules())
    for rows in ([5], [20, 3]):
        assert torch.equal(robust_cam(classifier, natural_images[rows]), whole[rows])
    assert not whole.requires_grad


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 7)), 32),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 7)), 32),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 9), nn.Linear(9, 7)),
            32,
        ),
        (nn.Sequential(nn.Conv2d(3, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 32),
        (nn.Sequential(nn.Conv2d(3, 4, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)), 8),
    ],
    ids=["no convolution", "largest", "two layers", "no linear layer", "one position"],
)
def test_refuses_a_network_without_such_layers(network, size):
    with pytest.raises(ConfigError, match="features of several positions, their average and") as caught:
        robust_cam(own(network), torch.rand(2, 3, size, size))
    assert caught.value.item == "mine"
    assert f"{size} x {size}" in str(caught.value)


def test_refuses_a_classifier_that_is_trained(natural_images):
    with pytest.raises(StlRayError, match="training mode"):
        robust_cam(named("small_cnn").train(), natural_images)
