import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stl_ray.attacks import Budget, make_attack
from stl_ray.config import AdversarialConfig, TrainConfig
from stl_ray.csc import Dictionary
from stl_ray.defenses import make_defense
from stl_ray.images import from_uint8, quantize
from stl_ray.metrics import dissimilarity, linf
from stl_ray.models import build_classifier
from stl_ray.space import QuasiNaturalSpace, SparseTransformationLayer
from stl_ray.training import train_classifier
from stl_ray.training.classifier.adversarial import attacked, craft, radii

NAMES = ["bright", "dark", "striped"]
METHODS = ("fgsm", "pgd", "fast")


@pytest.fixture(scope="module")
def trained(toy):
    classifier = build_classifier("small_cnn", NAMES, seed=0)
    list(train_classifier(classifier, toy, TrainConfig(epochs=8, batch_size=16, crop_padding=0), seed=0))
    return classifier


@pytest.fixture(scope="module")
def space():
    filters = torch.randn(12, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    filters = filters - filters.mean(dim=(2, 3), keepdim=True)
    filters = F.normalize(filters.flatten(1), dim=1).reshape(filters.shape)
    return QuasiNaturalSpace.from_dictionary(Dictionary(filters, 0.1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [{"dissimilarity": 0.08}, {"linf": 8}])
def test_invariant_examples_keep_their_ball_and_the_grid(method, budget, trained, natural_images):
    config = AdversarialConfig(method=method, **budget)
    images = quantize(natural_images)
    torch.manual_seed(0)
    examples = craft(trained, images, torch.arange(24) % 3, config)
    assert torch.equal(quantize(examples), examples)
    # Rounding to 8 bits moves a pixel by half a level.
    assert (linf(examples, images) <= radii(images, config).flatten() + 0.5 / 255 + 1e-6).all()
    if method == "fgsm" and "dissimilarity" in budget:
        clipped = ((images + radii(images, config)) > 1) | ((images - radii(images, config)) < 0)
        free = clipped.flatten(1).float().mean(dim=1) < 0.02
        assert free.sum() > 5
        assert dissimilarity(examples, images)[free].sub(0.08).abs().max() < 0.004


def test_agrees_fgsm_with_the_attack_engine_s(trained, toy):
    """Same signs and budget; the engine rounds within its budget and takes true labels, which are the predicted ones here."""
    images = from_uint8(toy.images)
    right = trained.eval().logits(images).argmax(1) == toy.labels
    images, labels = images[right], toy.labels[right]
    ours = craft(trained, images, (labels + 1) % 3, AdversarialConfig(dissimilarity=0.06))  # it takes its own
    ids = [str(i) for i in range(len(images))]
    theirs = make_attack("fgsm", {})(trained, images, labels, budget=Budget(size=0.06), ids=ids, seed=0).images
    moved = ours != images
    assert ((ours - images).sign() == (theirs - images).sign())[moved].float().mean() > 0.97


@pytest.mark.parametrize("method", METHODS)
def test_certificate_they_fool_the_network_that_they_were_made_on(method, trained, toy):
    images = from_uint8(toy.images)
    torch.manual_seed(0)
    examples = craft(trained.eval(), images, toy.labels, AdversarialConfig(method=method, dissimilarity=0.3))
    clean, fooled = (F.cross_entropy(trained.logits(batch), toy.labels) for batch in (images, examples))
    assert fooled > clean + 0.5


def test_identity_the_first_share_is_attacked_and_weighted(trained, toy):
    images = from_uint8(toy.images)
    trained.train().zero_grad()
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    made = attacked(
        trained, None, images, toy.labels, AdversarialConfig(dissimilarity=0.1, share=0.25), seeds=range(60)
    )
    assert trained.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    assert all(parameter.grad is None for parameter in trained.parameters())
    changed = (made.images != images).flatten(1).any(dim=1)
    assert changed[:15].all() and not changed[15:].any()
    # Kurakin et al.: the sum of clean losses and 0.3 times the attacked, over 45 + 0.3 * 15.
    torch.testing.assert_close(made.weights[0] / made.weights[-1], torch.tensor(0.3))
    torch.testing.assert_close(made.weights.sum() / 60, torch.tensor(1.0))
    everything = attacked(trained, None, images, toy.labels, AdversarialConfig(method="fast", linf=8), seeds=range(60))
    torch.testing.assert_close(everything.weights, torch.ones(60))


@pytest.mark.parametrize("gradient", ["exact", "bpda"])
def test_agrees_through_the_layer_with_its_own_gradient(gradient, trained, space, natural_images):
    """The step of FGSM on classifier(T(x)) is the sign of that composition's gradient."""
    images, labels = quantize(natural_images[:4]), torch.zeros(4, dtype=torch.long)
    layer = SparseTransformationLayer(space, gradient)
    input_transform = make_defense("stl", {}, {"space": space, "solver": "auto"}).differentiable(gradient)
    defended = nn.Sequential(layer, trained.eval())
    labels = defended(images).argmax(1)
    leaf = images.clone().requires_grad_()
    F.cross_entropy(defended(leaf), labels, reduction="sum").backward()
    config = AdversarialConfig(dissimilarity=0.05)
    examples = attacked(
        trained, input_transform, images, labels, config.model_copy(update={"share": 1.0}), seeds=range(4)
    ).images
    expected = quantize((images + radii(images, config) * leaf.grad.sign()).clamp(0, 1))
    assert torch.equal(examples, expected)


def test_identity_another_defense_has_the_identity_s_gradient(natural_images):
    jpeg = make_defense("jpeg", {"quality": 30}, {})
    leaf = natural_images[:3].clone().requires_grad_()
    output = jpeg.differentiable("bpda")(leaf, range(3))
    assert torch.equal(output, jpeg.purify(natural_images[:3], seeds=range(3)).images)
    cotangent = torch.rand_like(output)
    (gradient,) = torch.autograd.grad(output, leaf, cotangent)
    assert torch.equal(gradient, cotangent)


def test_certificate_adversarial_training_helps_against_its_attack(toy):
    """On images where a small step fools the plain classifier."""
    config = TrainConfig(epochs=25, batch_size=16, crop_padding=0, learning_rate=0.02)
    adversarial = AdversarialConfig(method="pgd", dissimilarity=0.2, steps=4)
    accuracies = []
    for how in (None, adversarial):
        classifier = build_classifier("small_cnn", NAMES, seed=0)
        list(train_classifier(classifier, toy, config.model_copy(update={"adversarial": how}), seed=0))
        torch.manual_seed(0)
        examples = craft(classifier, from_uint8(toy.images), toy.labels, adversarial)
        accuracies.append((classifier.logits(examples).argmax(1) == toy.labels).float().mean().item())
    assert accuracies[1] > accuracies[0] + 0.2, accuracies


def test_certificate_a_classifier_learns_behind_the_layer(toy, space):
    config = TrainConfig(
        epochs=6, batch_size=20, crop_padding=0, adversarial=AdversarialConfig(dissimilarity=0.05, gradient="exact")
    )
    input_transform = make_defense("stl", {}, {"space": space, "solver": "auto"}).differentiable("exact")
    classifier = build_classifier("small_cnn", NAMES, seed=0)
    *_, last = train_classifier(classifier, toy, config, seed=0, input_transform=input_transform, validation=toy)
    assert last.validation_accuracy > 0.9
    with torch.no_grad():
        purified = quantize(input_transform(from_uint8(toy.images), range(len(toy.images))))
    assert last.validation_loss == pytest.approx(
        F.cross_entropy(classifier.logits(purified), toy.labels).item(), rel=1e-4
    )
