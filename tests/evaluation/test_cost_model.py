import pytest
import torch

from stl_ray.evaluation.cost_model import StubClassifier, Work


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_identity_a_stub_of_any_number_of_classes(classes):
    images = torch.stack([torch.full((3, 8, 8), 0.5), torch.zeros(3, 8, 8)])
    logits, product = StubClassifier(classes, Work()).logits_and_vjp(images, torch.ones_like)
    assert logits.shape == (2, classes)
    assert logits[0].argmax() == 0
    assert product.shape == images.shape
