"""What holds for every defense in the registry, whatever its method."""

import json

import pytest
import torch

from stl_ray.csc import Dictionary
from stl_ray.defenses import DEFENSES, Defended, Defense, deployed, deployed_seeds, make_defense, required_by
from stl_ray.errors import ConfigError, GradientError, TensorError
from stl_ray.images import quantize
from stl_ray.models import build_classifier, predict, seeded
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails

IDS = [f"train/{index}" for index in range(24)]
SEEDS = [1000 + 7 * index for index in range(24)]


@pytest.fixture(scope="session")
def images(natural_images) -> torch.Tensor:
    return quantize(natural_images[::3])


@pytest.fixture(scope="session")
def space(natural_images) -> QuasiNaturalSpace:
    """Three strata of random dictionaries behind an untrained autoencoder: enough for what holds for all."""

    def dictionary(seed: int) -> Dictionary:
        filters = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        filters = filters - filters.mean((2, 3), keepdim=True)
        return Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], lmbda=0.1)

    autoencoder = seeded(Autoencoder, 0).eval()
    latents = encode(autoencoder, thumbnails(natural_images, 32))
    clusters = fit_clusters(latents, clusters=3, pca_components=8, restarts=2, seed=0)
    router = Router(autoencoder, clusters, hash_ids(IDS), neighbours=1)
    return QuasiNaturalSpace(dictionary(9), tuple(dictionary(seed) for seed in range(3)), 0.1, router, resolution=32)


@pytest.fixture(scope="session")
def resources(space) -> dict[str, object]:
    """One of everything that a defense may require: with a new kind of resource, a line here."""
    return {"space": space, "solver": "auto"}


@pytest.fixture(params=DEFENSES)
def defense(request, resources) -> Defense:
    return make_defense(request.param, {}, resources)


def purify(defense: Defense, images: torch.Tensor, rows: list[int] | None = None, **arguments):
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


def test_roundtrip_identity_is_json_and_the_same_for_the_same_defense(defense, resources):
    identity = defense.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["defense"] == defense.name
    assert make_defense(defense.name, {}, resources).identity() == identity


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
    if kind in ("black", "white", "flat") and not defense.randomised:  # no defense invents structure
        torch.testing.assert_close(purified.images, image, rtol=0, atol=2 / 255)


@pytest.mark.parametrize("size", [(8, 8), (21, 34)])
@pytest.mark.filterwarnings("ignore:the space was learned at")
def test_identity_any_size(defense, images, size):
    batch = quantize(torch.nn.functional.interpolate(images[:2], size, mode="bilinear", antialias=True))
    assert purify(defense, batch).images.shape == batch.shape


def test_identity_deployed_is_rounded_before_and_after(defense, images):
    seen = deployed(defense, images + 0.4 / 255, SEEDS[: len(images)])
    assert torch.equal(seen, quantize(purify(defense, quantize(images + 0.4 / 255)).images))
    assert torch.equal(seen, quantize(seen))


def test_identity_gradients_are_declared_from_the_strongest_to_the_identity(defense):
    order = ["exact", "stand_in", "bpda"]
    assert list(defense.gradients) == [gradient for gradient in order if gradient in defense.gradients]
    assert defense.gradients[-1] == "bpda"


@pytest.mark.parametrize("gradient", ["exact", "stand_in", "bpda"])
def test_invariant_gradients_of_a_defended_classifier(defense, images, gradient):
    classifier = build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()
    if gradient not in defense.gradients:
        with pytest.raises(GradientError, match=defense.name):
            Defended(classifier, defense, gradient)
        return
    victim = Defended(classifier, defense, gradient)
    before = images.clone()
    logits, product = victim.logits_and_vjp(images, torch.ones_like)
    assert torch.equal(images, before)
    assert not logits.requires_grad
    assert not product.requires_grad
    assert product.shape == images.shape
    assert bool(product.isfinite().all())
    assert float(product.flatten(1).norm(dim=1).min()) > 0
    if not defense.randomised:  # the draws of an attack are not those of a verdict
        torch.testing.assert_close(logits, classifier.logits(deployed(defense, images, SEEDS[: len(images)])))
    for rows in ([5], [7, 3, 1]):
        torch.testing.assert_close(
            victim.logits_and_vjp(images[rows], torch.ones_like)[1], product[rows], atol=1e-4, rtol=1e-3
        )


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


def test_invariant_verdicts_are_of_the_deployed_pipeline_and_of_the_image_alone(defense, images):
    classifier = build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()
    model = Defended(classifier, defense, "none", seed=4)
    whole = model.decide(images, IDS[:8])
    seen = deployed(defense, images, deployed_seeds(4, IDS[:8]))
    assert whole.prediction.tolist() == predict(classifier, seen).tolist()
    for rows in ([5], [7, 3, 1, 0]):
        part = model.decide(images[rows], [IDS[row] for row in rows])
        assert part.prediction.tolist() == whole.prediction[rows].tolist()
        assert part.status == [whole.status[row] for row in rows]


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


def test_invariant_exclude_changes_nothing_but_the_route(defense, natural_images):
    images = quantize(natural_images)
    excluded, plain = purify(defense, images, exclude=IDS), purify(defense, images)
    same = excluded.cluster == plain.cluster
    assert torch.equal(excluded.images[same], plain.images[same])
    assert bool(same.all()) == (defense.routes == 0)


@pytest.mark.parametrize("name", DEFENSES)
def test_refuses_to_do_without_what_it_requires(name, resources):
    for missing in required_by(name):
        with pytest.raises(ConfigError, match=f"without {missing}") as caught:
            make_defense(name, {}, {key: value for key, value in resources.items() if key != missing})
        assert caught.value.item == name
    assert make_defense(name, {}, {key: resources[key] for key in required_by(name)}).name == name
