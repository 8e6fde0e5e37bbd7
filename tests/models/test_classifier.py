import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stl_ray.errors import StlRayError, TensorError
from stl_ray.models import Classifier, Victim, build_classifier

NAMES = [f"class {i}" for i in range(10)]


@pytest.fixture
def classifier() -> Classifier:
    return build_classifier("small_cnn", NAMES, seed=0).eval()


def cross_entropy_cotangent(labels: Tensor):
    return lambda logits: logits.softmax(dim=1) - F.one_hot(labels, logits.shape[1])


def test_identity_a_classifier_is_a_victim(classifier):
    assert isinstance(classifier, Victim)


def test_identity_normalisation_lives_inside(natural_images):
    backbone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier(
        backbone, architecture="means", class_names=NAMES[:3], mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0)
    ).eval()
    means = natural_images.mean(dim=(2, 3))
    expected = (means - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 0.25, 2.0])
    torch.testing.assert_close(classifier.logits(natural_images), expected)


def test_agrees_vector_jacobian_product_with_a_loss_s_gradient(classifier, natural_images):
    labels = torch.arange(24) % 10
    leaf = natural_images.clone().requires_grad_()
    F.cross_entropy(classifier(leaf), labels, reduction="sum").backward()
    logits, product = classifier.logits_and_vjp(natural_images, cross_entropy_cotangent(labels))
    torch.testing.assert_close(logits, classifier.logits(natural_images), rtol=0, atol=0)
    torch.testing.assert_close(product, leaf.grad, rtol=1e-4, atol=1e-7)
    assert product.abs().amax() > 0


def test_agrees_vector_jacobian_product_with_finite_differences(classifier):
    # In float64, and on noise: where an image is flat, max-pooling has ties and no derivative.
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, 3, 32, 32), generator=generator, dtype=torch.float64)
    direction = torch.randn(image.shape, generator=generator, dtype=torch.float64)
    cotangent = torch.linspace(-1, 1, 10, dtype=torch.float64)[None]
    classifier = classifier.double()
    _, product = classifier.logits_and_vjp(image, lambda logits: cotangent)
    step = 1e-7 * direction
    change = (classifier.logits(image + step) - classifier.logits(image - step)) / 2e-7
    torch.testing.assert_close((product * direction).sum(), (change * cotangent).sum(), rtol=1e-5, atol=1e-8)


def test_invariant_the_victim_is_left_as_it_was(classifier, natural_images):
    for parameter in classifier.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    images = natural_images.clone()
    with torch.no_grad():  # an attack's surroundings must not take the gradient away
        logits, product = classifier.logits_and_vjp(images, cross_entropy_cotangent(torch.zeros(24, dtype=torch.long)))
    assert not logits.requires_grad and not product.requires_grad and not images.requires_grad
    assert not classifier.logits(images).requires_grad
    assert not classifier.training
    assert torch.equal(images, natural_images)
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.state_dict().items())
    assert all((p.grad == 7).all() and p.requires_grad for p in classifier.parameters())


def test_refuses_training_mode(classifier, natural_images):
    classifier.train()
    with pytest.raises(StlRayError, match="training mode"):
        classifier.logits(natural_images)
    with pytest.raises(StlRayError, match="training mode"):
        classifier.logits_and_vjp(natural_images, lambda logits: logits)


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 32, 32)])
def test_refuses_what_is_not_an_rgb_batch(classifier, shape):
    with pytest.raises(TensorError, match=r"\(B, 3, H, W\)"):
        classifier.logits(torch.zeros(shape))


def test_agrees_either_layout_and_the_usual_one_suits_a_backbone_with_views(natural_images):
    class Viewing(torch.nn.Sequential):
        def forward(self, x):
            hidden = self[0](x)
            return self[1](hidden.view(len(x), -1)[:, :64])

    backbone = Viewing(torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(64, 5)).eval()
    names = list("abcde")
    images = natural_images[:4]
    with pytest.raises(RuntimeError, match="view"):
        Classifier(backbone, architecture="viewing", class_names=names).eval().logits(images)
    usual = Classifier(backbone, architecture="viewing", class_names=names, channels_last=False).eval()
    assert usual.logits(images).shape == (4, 5)

    classifier = build_classifier("small_cnn", names, seed=0).eval()
    logits, product = classifier.logits_and_vjp(images, torch.tanh)
    classifier.channels_last = False
    for ours, other in zip((logits, product), classifier.logits_and_vjp(images, torch.tanh), strict=True):
        assert ours.is_contiguous()
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-6)


def test_invariant_products_in_inference_mode(natural_images):
    classifier = build_classifier("small_cnn", ["a", "b"], seed=0).eval()
    expected = classifier.logits_and_vjp(natural_images, torch.ones_like)
    many = classifier.logits_and_vjps(natural_images, lambda logits: torch.ones_like(logits)[None])
    with torch.inference_mode():
        images = natural_images.clone()
        assert all(map(torch.equal, classifier.logits_and_vjp(images, torch.ones_like), expected))
        here = classifier.logits_and_vjps(images, lambda logits: torch.ones_like(logits)[None])
    assert all(map(torch.equal, here, many))
