"""What holds for every transformation in the registry, whatever its method."""

import pytest
import torch

from stl_ray.defenses import DEFENSES, Transformation, deployed, is_transformation
from stl_ray.errors import GradientError, TensorError
from stl_ray.images import quantize

SEEDS = [1000 + 7 * index for index in range(24)]


@pytest.fixture(params=[name for name in DEFENSES if is_transformation(name)])
def defense(request, made) -> Transformation:
    return made(request.param)


def purify(defense: Transformation, images: torch.Tensor, rows: list[int] | None = None, **arguments):
    """Those rows of the images, each with its own seed."""
    rows = list(range(len(images))) if rows is None else rows
    return defense.purify(images[rows], seeds=[SEEDS[row] for row in rows], **arguments)


def test_identity_shapes_types_and_range(defense, images):
    purified = purify(defense, images)
    assert purified.images.shape == images.shape
    assert purified.images.dtype == torch.float32
    assert 0 <= float(purified.images.min()) <= float(purified.images.max()) <= 1
    assert [purified.cluster.dtype, purified.iterations.dtype, purified.sparsity.dtype] == [
        torch.int16, torch.int16, torch.float32,
    ]  # fmt: skip
    for entries in (purified.cluster, purified.iterations, purified.sparsity, purified.status):
        assert len(entries) == len(images)
    assert set(purified.status) <= {"applied", "converged", "max_iterations"}
    assert (set(purified.status) == {"applied"}) == (not defense.iterative)
    assert bool(((purified.cluster == -1) == (defense.routes == 0)).all())
    assert int(purified.cluster.max()) < max(defense.routes, 1)
    assert bool(((purified.iterations == 0) == (not defense.iterative)).all())
    assert bool((purified.sparsity.isnan() == (not defense.iterative)).all())


def test_invariant_repeated_alone_in_a_batch_and_shuffled(defense, images):
    whole = purify(defense, images)
    assert defense.routes == 0 or len(set(whole.cluster.tolist())) > 1
    for rows in (list(range(8)), [5], [2, 3, 4], [7, 3, 1, 0, 2, 6, 5, 4]):
        part = purify(defense, images, rows)
        assert torch.equal(part.images, whole.images[rows])
        assert part.cluster.tolist() == whole.cluster[rows].tolist()
        assert part.iterations.tolist() == whole.iterations[rows].tolist()
        assert part.status == [whole.status[row] for row in rows]
        assert torch.equal(part.sparsity.nan_to_num(-1), whole.sparsity[rows].nan_to_num(-1))


def test_invariant_inputs_and_random_state_are_left_as_they_were(defense, images):
    before, state = images.clone(), torch.random.get_rng_state()
    purify(defense, images)
    assert torch.equal(images, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_invariant_seeds_matter_where_the_defense_draws_and_nowhere_else(defense, images):
    once, again = purify(defense, images).images, purify(defense, images).images
    other = defense.purify(images, seeds=[seed + 1 for seed in SEEDS[: len(images)]]).images
    assert torch.equal(once, again)
    moved = (once != other).flatten(1).any(1)  # of few outcomes, two seeds may have the same one
    assert bool(moved.any()) == defense.randomised


@pytest.mark.parametrize("kind", ["black", "white", "flat", "grey", "one pixel"])
def test_certificate_plain_images_stay_finite(defense, images, kind):
    black = torch.zeros_like(images[:1])
    spot = black.clone()
    spot[0, 0, 16, 16] = 1
    image = {
        "black": black,
        "white": black + 1,
        "flat": quantize(black + torch.tensor([0.25, 0.5, 0.875]).view(3, 1, 1)),
        "grey": quantize(images[:1].mean(1, keepdim=True).expand(1, 3, 32, 32)),
        "one pixel": spot,
    }[kind]
    purified = purify(defense, image)
    assert bool(purified.images.isfinite().all())
    # No defense invents structure but those that make an image of others' patches, or by a network (here untrained).
    invents = defense.name in ("quilting", "magnet", "pixel_defend")
    if kind in ("black", "white", "flat") and not defense.randomised and not invents:
        torch.testing.assert_close(purified.images, image, rtol=0, atol=2 / 255)


@pytest.mark.parametrize("size", [(8, 8), (21, 34), (32, 224)])
@pytest.mark.filterwarnings("ignore:the space was learned at")
def test_identity_any_size(defense, images, size):
    batch = quantize(torch.nn.functional.interpolate(images[:1], size, mode="bilinear", antialias=True))
    purified = purify(defense, batch).images
    assert purified.shape == batch.shape and bool(purified.isfinite().all())


def test_identity_deployed_is_rounded_before_and_after(defense, images):
    seen = deployed(defense, images + 0.4 / 255, SEEDS[: len(images)])
    assert torch.equal(seen, quantize(purify(defense, quantize(images + 0.4 / 255)).images))
    assert torch.equal(seen, quantize(seen))


@pytest.mark.parametrize("gradient", ["exact", "stand_in", "bpda"])
def test_agrees_the_differentiable_transformation_with_the_linearised_one(defense, images, gradient):
    if gradient not in defense.gradients:
        with pytest.raises(GradientError, match=defense.name):
            defense.differentiable(gradient)
        return
    seeds, v = SEEDS[: len(images)], torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    leaf = images.clone().requires_grad_()
    output = defense.differentiable(gradient)(leaf, seeds)
    (product,) = torch.autograd.grad(output, leaf, v)
    expected, pullback = defense.linearised(gradient)(images, seeds)
    assert torch.equal(output, expected) and torch.equal(output, purify(defense, images).images)
    assert torch.equal(product, pullback(v))


def test_identity_certified_and_every_route_are_defenses_of_the_same_kind(defense, images):
    if defense.iterative:
        assert set(purify(defense.certified(), images, [0, 1]).status) == {"converged"}
    else:
        assert defense.certified() is defense
    for route in range(defense.routes):
        forced = defense.routed_to(route)
        chosen = [row for row, own in enumerate(purify(defense, images).cluster.tolist()) if own == route]
        if chosen:
            expected = purify(defense, images, chosen).images
            assert torch.equal(purify(forced, images, chosen).images, expected)
    with pytest.raises(TensorError):
        defense.routed_to(defense.routes)


def test_invariant_exclude_changes_nothing_but_the_route(defense, natural_images, ids):
    images = quantize(natural_images)
    excluded, plain = purify(defense, images, exclude=ids), purify(defense, images)
    same = excluded.cluster == plain.cluster
    assert torch.equal(excluded.images[same], plain.images[same])
    assert bool(same.all()) == (defense.routes == 0)


@pytest.mark.parametrize("gradient", ["exact", "stand_in", "bpda"])
def test_certificate_white_and_black_pixels_do_not_cut_the_gradient_off(defense, images, gradient):
    """A clamp that meets its bounds has no derivative there, and every white or black region would be masked."""
    if gradient not in defense.gradients:
        return
    for level in (0.0, 1.0):
        plain = torch.full_like(images[:1], level)
        plain[..., 8:24, 8:24] = 0.4
        plain[..., 12:20, 12:20] = 0.6
        _, pullback = defense.linearised(gradient)(plain, SEEDS[:1])
        v = torch.randn(plain.shape, generator=torch.Generator().manual_seed(0))
        product = pullback(v)
        outside = torch.ones(32, 32, dtype=torch.bool)
        outside[4:28, 4:28] = False
        assert float(product[..., outside].norm()) > 0.005 * float(v[..., outside].norm())
