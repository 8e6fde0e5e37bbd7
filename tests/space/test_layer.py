import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from stl_ray.csc import Accuracy, Descent, Dictionary, SolveStatus, Splitting, operator_of, reconstruct, split_bands
from stl_ray.csc.certificate import duality_gap
from stl_ray.errors import TensorError
from stl_ray.images.clipping import CLIP_SLACK
from stl_ray.space import QuasiNaturalSpace, SparseTransformationLayer

TIGHT = Accuracy(Splitting(20, 1e-9, 1e-10, 50_000), Descent(1e-6, 1e-6, 5000))


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


@pytest.mark.parametrize("normalization", ["clip", "reference"])
def test_identity_gradcheck_of_every_pixel(normalization: str) -> None:
    """All of the Jacobian, away from kinks: no coefficient is about to enter or leave, no pixel about to be clipped."""
    filters = torch.randn((4, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    dictionary = Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], 0.1)
    space = QuasiNaturalSpace.from_dictionary(dictionary)
    images = torch.rand((1, 1, 7, 6), dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    raw, codes = reconstruct(images, dictionary, 0.1, accuracy=TIGHT)
    high = split_bands(images)[1]
    operator = operator_of(dictionary, 7, 6, torch.float64, images.device)
    on = codes.maps != 0
    assert on.sum() > 5
    assert duality_gap(codes.maps, high, operator, 0.1).max() < 1e-9
    assert codes.maps[on].abs().min() > 1e-4
    assert operator.adjoint(high - codes.synthesis).abs()[~on].max() < 0.1 - 1e-4
    brightest = raw.flatten().topk(2).values
    assert raw.min() > 1e-3
    assert brightest[0] < 1 - 1e-3
    assert brightest[0] - brightest[1] > 1e-3
    layer = SparseTransformationLayer(space, "exact", TIGHT, 400, normalization=normalization)
    assert torch.equal(layer(images), space.project(images, TIGHT, normalization).images)
    assert torch.autograd.gradcheck(layer, (images.requires_grad_(),), eps=1e-6, atol=1e-6, rtol=1e-5)
    assert layer.cg_residual is not None
    assert layer.cg_residual.max() < 1e-7


def test_identity_clipped_pixels_pass_no_exact_gradient(dictionaries: tuple[Dictionary, ...]) -> None:
    images = torch.ones(1, 3, 16, 16)
    images[0, :, 4:12, 4:12] = 0
    raw = reconstruct(images, dictionaries[0], 0.2).images
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


@pytest.mark.gpu
def test_invariant_a_layer_left_on_the_cpu_follows_the_images(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    """As a replica of DataParallel's on another device than the first."""
    images = natural_images[:6].to("cuda").requires_grad_()
    layer = SparseTransformationLayer(space)
    moved = copy.deepcopy(layer).to("cuda")
    torch.testing.assert_close(layer(images), moved(images))
    layer(images).sum().backward()


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


class Head(nn.Module):
    """A classifier of four classes for images of any size, with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.logits = nn.Conv2d(3, 6, 3), nn.Linear(24, 4)

    def forward(self, images: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(self.features(images).relu(), 2)
        logits: Tensor = self.logits(pooled.flatten(1))
        return logits


def defended(space: QuasiNaturalSpace, gradient: str = "exact") -> nn.Sequential:
    """The layer in front of a small classifier."""
    torch.manual_seed(0)
    return nn.Sequential(SparseTransformationLayer(space, gradient), Head())


def input_gradient(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The logits of the images, and the gradient of a class to them."""
    images = images.clone().requires_grad_()
    logits = model(images)
    (gradient,) = torch.autograd.grad(logits.float().logsumexp(1).sum(), images)
    return logits.detach(), gradient


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("gradient", ["exact", "bpda"])
@pytest.mark.usefixtures("fresh_compiler")
def test_agrees_under_compilation(
    space: QuasiNaturalSpace, natural_images: Tensor, backend: str, gradient: str
) -> None:
    model = defended(space, gradient)
    compiled = torch.compile(model, backend=backend)
    for count in (4, 2):
        expected, got = (input_gradient(each, natural_images[:count]) for each in (model, compiled))
        for ours, theirs in zip(expected, got, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("fresh_compiler")
def test_invariant_the_classifier_behind_the_layer_is_compiled(
    space: QuasiNaturalSpace, natural_images: Tensor
) -> None:
    counter = CompileCounter()
    model = torch.compile(defended(space), backend=counter)
    for _ in range(3):
        model(natural_images[:2])
    assert counter.frame_count >= 1
    assert counter.op_count >= 4
    compiled = counter.frame_count
    model(natural_images[2:4])
    assert counter.frame_count == compiled


@pytest.mark.parametrize("gradient", ["exact", "bpda", "none"])
def test_invariant_under_autocast(space: QuasiNaturalSpace, natural_images: Tensor, gradient: str) -> None:
    layer = SparseTransformationLayer(space, gradient)
    images = natural_images[::6].clone().requires_grad_()
    cotangent = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    expected = layer(images)
    assert space.router is not None
    latents = []
    hook = space.router.autoencoder.encoder.register_forward_hook(lambda *call: latents.append(call[-1].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(images)
        assert torch.equal(space.project(natural_images[::6]).images, expected)
    hook.remove()
    assert set(latents) == {torch.float32}
    assert output.dtype == torch.float32
    assert torch.equal(output, expected)
    if gradient != "none":
        outside = torch.autograd.grad(expected, images, cotangent)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = torch.autograd.grad(output, images, cotangent)[0]
        assert torch.equal(inside, outside)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, gradient_ = input_gradient(defended(space, gradient), natural_images[:2])
        assert logits.dtype == torch.bfloat16
        assert gradient_.isfinite().all()


@pytest.mark.parametrize("gradient", ["exact", "bpda", "none"])
def test_invariant_memory_format(space: QuasiNaturalSpace, natural_images: Tensor, gradient: str) -> None:
    images = natural_images[::6]
    layer = SparseTransformationLayer(space, gradient)
    output = layer(images.contiguous(memory_format=torch.channels_last).requires_grad_())
    assert output.is_contiguous()
    assert torch.equal(output, layer(images))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("gradient", ["exact", "bpda", "none"])
def test_invariant_half_precision_is_projected_in_single(
    space: QuasiNaturalSpace, natural_images: Tensor, dtype: torch.dtype, gradient: str
) -> None:
    layer = SparseTransformationLayer(space, gradient)
    images = natural_images[:2].to(dtype).requires_grad_()
    output = layer(images)
    assert output.dtype == dtype
    assert torch.equal(output, space.project(images.detach().float()).images.to(dtype))
    if gradient != "none":
        (got,) = torch.autograd.grad(output.float().square().sum(), images)
        assert got.dtype == dtype
        assert got.isfinite().all()


@pytest.mark.parametrize("size", [(8, 8), (8, 31), (33, 40)])
def test_invariant_any_size_from_the_filters_up(
    space: QuasiNaturalSpace, natural_images: Tensor, size: tuple[int, int]
) -> None:
    images = natural_images[:3].repeat(1, 1, 2, 2)[..., : size[0], : size[1]].clone().requires_grad_()
    output = SparseTransformationLayer(space.universal())(images)
    assert output.shape == images.shape
    output.square().sum().backward()
    assert images.grad is not None
    assert images.grad.flatten(1).norm(dim=1).min() > 0


def test_invariant_no_state_and_copies_do_the_same(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    layer = SparseTransformationLayer(space)
    assert layer.state_dict() == {}
    assert list(layer.parameters()) == list(layer.buffers()) == []
    layer(natural_images[:1].clone().requires_grad_()).sum().backward()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        for ours, theirs in zip(
            *(input_gradient(each.flatten_, natural_images[:2]) for each in map(_Flat, (layer, other))), strict=True
        ):
            assert torch.equal(ours, theirs)


class _Flat:
    """A layer as a model whose logits are its pixels."""

    def __init__(self, layer: nn.Module) -> None:
        self.flatten_ = nn.Sequential(layer, nn.Flatten())


def test_agrees_on_two_threads_at_once(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    # What DataParallel does with its replicas, whose space they share.
    model, halves = defended(space), (natural_images[:3], natural_images[3:6])
    expected = [input_gradient(model, half) for half in halves]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda half: input_gradient(model, half), halves))
    for one_after_another, at_once in zip(expected, found, strict=True):
        for ours, theirs in zip(one_after_another, at_once, strict=True):
            assert torch.equal(ours, theirs)


def _train(rank: int, space: QuasiNaturalSpace, images: Tensor, folder: str) -> None:
    """One step of a process of two on its half of the images; writes the head's gradient and its own to the images."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(defended(space))
    own = images[rank::2].clone().requires_grad_()
    model(own).logsumexp(1).mean().backward()
    torch.save([own.grad, *(parameter.grad for parameter in model.parameters())], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_agrees_with_one_process_that_takes_both_halves_of_the_batch(
    space: QuasiNaturalSpace, natural_images: Tensor, tmp_path: Path
) -> None:
    images = natural_images[:4]
    torch.multiprocessing.start_processes(_train, args=(space, images, str(tmp_path)), nprocs=2, start_method="fork")
    model = defended(space)
    halves = [images[rank::2].clone().requires_grad_() for rank in range(2)]
    # Not the whole batch at once: the head's convolutions round by its size, and conjugate gradients amplify that.
    for half in halves:
        (model(half).logsumexp(1).mean() / 2).backward()
    for rank, half in enumerate(halves):
        own, *parameters = torch.load(tmp_path / f"{rank}.pt")
        assert half.grad is not None
        assert torch.equal(own / 2, half.grad)
        for theirs, ours in zip(parameters, model.parameters(), strict=True):
            torch.testing.assert_close(theirs, ours.grad, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("gradient", ["exact", "none"])
def test_invariant_a_warm_start_is_asked_for(space: QuasiNaturalSpace, natural_images: Tensor, gradient: str) -> None:
    images, nearby = natural_images[:4], (natural_images[:4] + 0.002).clamp(0, 1)
    cold = SparseTransformationLayer(space, gradient, method="admm")
    warm = SparseTransformationLayer(space, gradient, method="admm", warm_start=True)
    assert torch.equal(cold(nearby), cold(nearby))
    assert torch.equal(warm(images), cold(images))
    again = warm(nearby)
    assert not torch.equal(again, cold(nearby))
    torch.testing.assert_close(again, cold(nearby), rtol=0, atol=0.05)
    # Images of another shape start cold.
    assert torch.equal(warm(images[:2]), cold(images[:2]))


def test_invariant_the_residual_of_the_latest_backward_pass(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    residuals = []
    for steps in (2, 30):
        layer = SparseTransformationLayer(space, cg_steps=steps)
        assert layer.cg_residual is None
        input_gradient(nn.Sequential(layer, nn.Flatten()), natural_images[:5])
        assert layer.cg_residual is not None
        assert layer.cg_residual.shape == (5,)
        residuals.append(layer.cg_residual)
    assert (residuals[1] < residuals[0]).all()


def test_refuses_a_second_derivative(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    images = natural_images[:1].clone().requires_grad_()
    (first,) = torch.autograd.grad(SparseTransformationLayer(space)(images).square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(first.sum(), images)


def test_refuses_unknown_modes_and_images(space: QuasiNaturalSpace, natural_images: Tensor) -> None:
    with pytest.raises(TensorError, match="gradient"):
        SparseTransformationLayer(space, "unrolled")
    with pytest.raises(TensorError, match="accuracy"):
        SparseTransformationLayer(space, accuracy="best")
    with pytest.raises(TensorError, match="steps"):
        SparseTransformationLayer(space, cg_steps=0)
    with pytest.raises(TensorError, match="normalization"):
        SparseTransformationLayer(space, normalization="max")
    with pytest.raises(TensorError, match="method"):
        SparseTransformationLayer(space, method="magic")
    for gradient in ("exact", "bpda", "none"):
        with pytest.raises(TensorError):
            SparseTransformationLayer(space, gradient)(natural_images[:2] * 255)


@pytest.mark.parametrize("gradient", ["exact", "none"])
def test_invariant_a_warm_start_is_the_images_own_and_its_stratums(
    space: QuasiNaturalSpace, natural_images: Tensor, gradient: str
) -> None:
    clusters = space.route(natural_images)
    first = int((clusters == clusters[0]).nonzero()[1, 0])
    other = int((clusters != clusters[0]).nonzero()[0, 0])
    before, after = natural_images[[0, first]], natural_images[[first, other]]
    cold, warm = SparseTransformationLayer(space, gradient), SparseTransformationLayer(space, gradient, warm_start=True)
    warm(before)
    output = warm(after)
    # The second image went to another stratum and starts from zero; the first goes on from codes of its own stratum.
    assert torch.equal(output[1], cold(after)[1])
    assert not torch.equal(output[0], cold(after)[0])


def test_invariant_a_diverged_image_costs_the_others_no_warm_start(
    space: QuasiNaturalSpace, natural_images: Tensor
) -> None:
    layer = SparseTransformationLayer(space.universal(), "none", warm_start=True)
    layer(natural_images[:3])
    assert layer._latest is not None
    codes, clusters = layer._latest
    status = torch.tensor([0, SolveStatus.DIVERGED, 0])
    layer._latest = replace(codes, status=status), clusters
    start = layer._start(natural_images[:3], clusters)
    assert start is not None
    kept = torch.bincount(start.support[0], minlength=3) > 0
    assert kept.tolist() == [True, False, True]
