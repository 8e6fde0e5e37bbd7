"""What SAP makes of a classifier: what is pruned, what the mean is of, and the gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stl_ray.defenses import Defended, deployed_seeds, make_defense
from stl_ray.defenses.activation_pruning import prune, prune_each
from stl_ray.defenses.stochastic_activation_pruning import PrunedNetwork, PruningOptions
from stl_ray.defenses.views import seeds_of_views
from stl_ray.errors import ConfigError, TensorError
from stl_ray.models import Classifier, build_classifier, module_digest

NAMES = ["cat", "dog", "frog"]
SEEDS = [11, 12, 13]
PAPER, ATHALYE = PruningOptions(), PruningOptions(where="convolution", draws=2.0, passes=1)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return build_classifier("small_cnn", NAMES, seed=0).eval()


@pytest.fixture
def images(natural_images) -> Tensor:
    return natural_images[:3]


def own(network: nn.Module) -> Classifier:
    return Classifier(network, architecture="mine", class_names=NAMES, mean=(0, 0, 0), std=(1, 1, 1)).eval()


@pytest.mark.parametrize("where", ["relu", "convolution"])
def test_agrees_with_layers_that_prune_themselves(where, classifier, images):
    class Pruned(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            answer = self.layer(x)
            return prune(answer, 0.7, drawn) if where == "relu" else prune_each(answer, 0.7, drawn)

    written = copy.deepcopy(classifier)
    for name, module in list(written.backbone.named_children()):
        if isinstance(module, nn.ReLU if where == "relu" else nn.Conv2d):
            setattr(written.backbone, name, Pruned(module).eval())
    drawn = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    network = PrunedNetwork(classifier, SEEDS, PruningOptions(draws=0.7, where=where))
    torch.testing.assert_close(network.logits(images), written.logits(images))


class Calls(nn.Module):
    """One linear layer, and an activation that is called in one of torch's ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.linear = way, nn.Linear(48, 3)
        self.module = nn.ReLU(inplace=way == "module in place")

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 8).flatten(1) - 0.3
        match self.way:
            case "function":
                x = F.relu(x)
            case "function in place, forgotten":
                F.relu(x, inplace=True)
            case "torch":
                x = torch.relu(x)
            case "method":
                x = x.relu()
            case "method in place, forgotten":
                x.relu_()
            case "by name":
                x = F.relu(input=x)
            case _:
                x = self.module(x)
        return self.linear(x)


WAYS = ["module", "module in place", "function", "function in place, forgotten", "torch", "method"]


@pytest.mark.parametrize("way", [*WAYS, "method in place, forgotten", "by name"])
def test_identity_a_relu_is_pruned_however_it_is_called(way, images):
    torch.manual_seed(0)
    network = Calls(way)
    expected = network.linear(
        prune(F.relu(F.avg_pool2d(images, 8).flatten(1) - 0.3), 1.0, [torch.Generator().manual_seed(s) for s in SEEDS])
    )
    pruned = PrunedNetwork(own(network), SEEDS, PAPER)
    torch.testing.assert_close(pruned.logits(images), expected)
    assert bool(pruned.logits_and_vjp(images, lambda logits: F.one_hot(logits.argmax(1), 3).float())[1].any())


@pytest.mark.parametrize("name", ["cifar_resnet20", "vgg11_bn_small", "resnet18_small", "torchvision:densenet121"])
def test_identity_ours_and_torchvision_s_networks_are_pruned(name, images):
    classifier = build_classifier(name, NAMES, seed=0).eval()
    pruned = PrunedNetwork(classifier, SEEDS, PAPER).logits(images)
    assert bool(pruned.isfinite().all()) and not torch.allclose(pruned, classifier.logits(images))


@pytest.mark.parametrize("options", [PAPER, ATHALYE], ids=["paper", "athalye"])
def test_invariant_the_classifier_and_the_random_state_are_left_alone(options, classifier, images):
    digest, answer, state = module_digest(classifier), classifier.logits(images), torch.random.get_rng_state()
    before = images.clone()
    network = PrunedNetwork(classifier, SEEDS, options)
    first = network.logits(images)
    logits, product = network.logits_and_vjp(images, torch.ones_like)
    assert torch.equal(first, network.logits(images)) and torch.equal(first, logits)
    assert not logits.requires_grad and not product.requires_grad and torch.equal(images, before)
    assert module_digest(classifier) == digest and all(weight.grad is None for weight in classifier.parameters())
    assert torch.equal(classifier.logits(images), answer)
    assert torch.equal(torch.random.get_rng_state(), state)
    other = PrunedNetwork(classifier, [11, 12, 99], options).logits(images)
    assert [bool((row != was).any()) for row, was in zip(other, first, strict=True)] == [False, False, True]


@pytest.mark.parametrize("options", [PAPER, ATHALYE], ids=["paper", "athalye"])
def test_agrees_the_gradient_of_the_drawn_network_with_finite_differences(options, images):
    classifier = build_classifier("small_cnn", NAMES, seed=0).double().eval()
    # Small images: with n draws among n activations, n^2 times the change of a probability is how many draws change sides.
    images, generator = F.avg_pool2d(images, 4).double(), torch.Generator().manual_seed(3)
    v = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    network = PrunedNetwork(classifier, SEEDS, options)
    _, product = network.logits_and_vjp(images, lambda logits: v)
    step = 1e-8
    rise = (network.logits(images + step * direction) - network.logits(images - step * direction)) / (2 * step)
    torch.testing.assert_close((v * rise).sum(1), (product * direction).sum((1, 2, 3)), rtol=1e-4, atol=1e-8)


def test_certificate_many_draws_are_the_classifier(classifier, images):
    pruned = PrunedNetwork(classifier, SEEDS, PruningOptions(draws=1000.0)).logits(images)
    torch.testing.assert_close(pruned, classifier.logits(images), rtol=0, atol=1e-2)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_certificate_plain_images_have_finite_answers_and_gradients(value, classifier, images):
    network = PrunedNetwork(classifier, SEEDS, PAPER)
    logits, product = network.logits_and_vjp(torch.full_like(images, value), torch.zeros_like)
    assert bool(logits.isfinite().all()) and bool(product.isfinite().all())


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v2", "timm:test_vit"])
def test_refuses_a_network_without_a_relu(name, images):
    if name.startswith("timm"):
        pytest.importorskip("timm", reason="an optional extra")
    images = F.interpolate(images, (160, 160))
    classifier = build_classifier(name, NAMES, seed=0).eval()
    with pytest.raises(ConfigError, match=r"sap: .* nothing to prune; expected a network that calls torch's relu"):
        PrunedNetwork(classifier, SEEDS, PAPER).logits(images)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_refuses_a_network_whose_calls_it_cannot_see(images):
    script = torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(ConfigError, match="compiled"):
        PrunedNetwork(own(script), SEEDS, PAPER).logits(images)


def test_identity_a_verdict_is_that_of_the_mean_softmax_of_passes_with_seeds_of_their_own(classifier, images):
    defense = make_defense("sap", {"passes": 4}, {})
    names = ["a", "b", "c"]
    seeds = seeds_of_views(defense, deployed_seeds(5, names))
    assert len({seed for of_view in seeds for seed in of_view}) == 12
    passes = [PrunedNetwork(classifier, draw, PAPER).logits(images).softmax(1) for draw in seeds]
    model = Defended(classifier, defense, seed=5, rounded=False)
    torch.testing.assert_close(model.verdict_logits(images, names).exp(), torch.stack(passes).mean(0))
    assert model.decide(images, names).prediction.tolist() == torch.stack(passes).mean(0).argmax(1).tolist()


def test_refuses_another_number_of_images_than_of_seeds(classifier, images):
    with pytest.raises(TensorError, match="seed of its own; expected 3; got 2"):
        PrunedNetwork(classifier, SEEDS, PAPER).logits(images[:2])
