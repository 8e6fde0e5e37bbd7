import pytest
import torch
from torch import Tensor, nn

from stl_ray.csc import Accuracy, Dictionary
from stl_ray.errors import TensorError
from stl_ray.space import QuasiNaturalSpace, SparseTransformationLayer

TIGHT = Accuracy(penalty=20, violation=1e-9, change=1e-10, max_iterations=50_000)


@pytest.mark.parametrize("gradient", ["exact", "bpda", "none"])
def test_agrees_with_the_projection(space: QuasiNaturalSpace, natural_images: Tensor, gradient: str) -> None:
    images = natural_images[::4]
    layer = SparseTransformationLayer(space, gradient=gradient)
    expected = space.project(images).images
    assert torch.equal(layer(images), expected)
    assert torch.equal(layer(images.clone().requires_grad_()), expected)


def test_identity_gradcheck_of_the_exact_gradient(natural_images: Tensor) -> None:
    filters = torch.randn((5, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    dictionary = Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], 0.05)
    layer = SparseTransformationLayer(QuasiNaturalSpace.from_dictionary(dictionary), "exact", TIGHT, cg_steps=400)
    images = natural_images[[0, 9], :, 8:19, 8:17].double().clamp(0.05, 0.95).requires_grad_()
    assert torch.autograd.gradcheck(layer, (images,), eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_identity_clipped_pixels_pass_no_exact_gradient(dictionaries: tuple[Dictionary, ...]) -> None:
    white = torch.ones(1, 3, 16, 16)
    white[0, :, 4:12, 4:12] = 0
    layer = SparseTransformationLayer(QuasiNaturalSpace.from_dictionary(dictionaries[0]))
    images = white.clone().requires_grad_()
    output = layer(images)
    saturated = (output == 0) | (output == 1)
    assert saturated.any()
    output.backward(torch.where(saturated, 1.0, 0.0))
    assert images.grad is not None
    assert (images.grad == 0).all()


def test_identity_bpda_is_the_identity_backwards(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    images = natural_images[:3].clone().requires_grad_()
    cotangent = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    SparseTransformationLayer(space, "bpda")(images).backward(cotangent)
    assert torch.equal(images.grad, cotangent)


def test_invariant_none_has_no_gradient(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    assert not SparseTransformationLayer(space, "none")(natural_images[:2].clone().requires_grad_()).requires_grad


def test_invariant_gradient_does_not_depend_on_batch_mates(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)).eval()
    defended = nn.Sequential(SparseTransformationLayer(space), classifier)

    def gradient(images: Tensor) -> Tensor:
        images = images.clone().requires_grad_()
        (result,) = torch.autograd.grad(defended(images)[:, 0].sum(), images)
        return result

    together = gradient(natural_images[::6])
    for index, image in enumerate(natural_images[::6]):
        torch.testing.assert_close(gradient(image[None])[0], together[index], rtol=1e-5, atol=1e-7)
    assert together.flatten(1).norm(dim=1).min() > 0


def test_refuses_unknown_modes_and_images(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    with pytest.raises(TensorError, match="gradient"):
        SparseTransformationLayer(space, "unrolled")
    with pytest.raises(TensorError, match="accuracy"):
        SparseTransformationLayer(space, accuracy="best")
    with pytest.raises(TensorError, match="steps"):
        SparseTransformationLayer(space, cg_steps=0)
    for gradient in ("exact", "bpda", "none"):
        with pytest.raises(TensorError):
            SparseTransformationLayer(space, gradient)(natural_images[:2] * 255)
