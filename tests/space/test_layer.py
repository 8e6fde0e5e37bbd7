import pytest
import torch
from torch import Tensor, nn

from stl_ray.csc import Accuracy, Dictionary, reconstruct, split_bands
from stl_ray.errors import TensorError
from stl_ray.space import QuasiNaturalSpace, SparseTransformationLayer
from stl_ray.space.layer import CLIP_SLACK

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
    images = torch.ones(1, 3, 16, 16)
    images[0, :, 4:12, 4:12] = 0
    raw = reconstruct(images, dictionaries[0], 0.2, "default").images
    outside = (raw < -CLIP_SLACK) | (raw > 1 + CLIP_SLACK)
    assert (raw[outside] < 0).any()
    assert (raw[outside] > 1).any()
    layer = SparseTransformationLayer(QuasiNaturalSpace.from_dictionary(dictionaries[0]))
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(images), images, outside.float())
    assert (gradient == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_identity_black_and_white_pass_the_exact_gradient_of_the_low_band(
    dictionaries: tuple[Dictionary, ...], natural_images: Tensor, value: float
) -> None:
    images = torch.full((1, 3, 16, 16), value, requires_grad=True)
    layer = SparseTransformationLayer(QuasiNaturalSpace.from_dictionary(dictionaries[0]))
    cotangent = natural_images[:1, :, :16, :16]
    (gradient,) = torch.autograd.grad(layer(images), images, cotangent)
    # Nothing is coded, so T is the low band there.
    low = images.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(split_bands(low)[0], low, cotangent)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_invariant_the_space_moves_with_the_module(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    defended = nn.Sequential(SparseTransformationLayer(space))
    defended.double()  # a type alone leaves the space as it is
    assert torch.equal(defended(natural_images[:2]), space.project(natural_images[:2]).images)
    defended.to("meta")
    router = defended[0].space.router
    tensors = (router.reference_ids, router.clusters.latents, *router.autoencoder.state_dict().values())
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert space.router is not None
    assert space.router.reference_ids.device.type == "cpu"


@pytest.mark.gpu
def test_agrees_with_the_cpu_after_moving(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    images = natural_images[:6]
    for own in (space, space.universal()):
        layer = SparseTransformationLayer(own).to("cuda")
        moved = images.to("cuda").requires_grad_()
        output = layer(moved)
        torch.testing.assert_close(output.detach().cpu(), own.project(images).images, rtol=0, atol=1e-3)
        output.sum().backward()
        assert moved.grad is not None
        assert moved.grad.abs().max() > 0


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
