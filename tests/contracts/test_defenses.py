"""What holds for every defense in the registry, whatever its method."""

import json

import pytest
import torch

from stl_ray.config import StlConfig
from stl_ray.csc import Dictionary
from stl_ray.defenses import DEFENSES, Defended, Defense, deployed, make_defense, needs_space
from stl_ray.errors import ConfigError, GradientError
from stl_ray.images import quantize
from stl_ray.models import build_classifier, seeded
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails

IDS = [f"train/{index}" for index in range(24)]


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


@pytest.fixture(params=DEFENSES)
def defense(request, space) -> Defense:
    return make_defense(request.param, {}, space=space, stl=StlConfig())


def test_identity_shapes_types_and_range(defense, images):
    purified = defense.purify(images)
    assert purified.images.shape == images.shape
    assert purified.images.dtype == torch.float32
    assert 0 <= float(purified.images.min()) <= float(purified.images.max()) <= 1
    assert [purified.cluster.dtype, purified.iterations.dtype, purified.sparsity.dtype] == [
        torch.int16, torch.int16, torch.float32,
    ]  # fmt: skip
    for entries in (purified.cluster, purified.iterations, purified.sparsity, purified.status):
        assert len(entries) == len(images)
    assert set(purified.status) <= {"applied", "converged", "max_iterations"}
    without_solver = set(purified.status) == {"applied"}
    assert bool(((purified.cluster == -1) == (defense.name != "stl_cluster")).all())
    assert bool(((purified.iterations == 0) == without_solver).all())
    assert bool((purified.sparsity.isnan() == without_solver).all())


def test_invariant_repeated_alone_in_a_batch_and_shuffled(defense, images):
    whole = defense.purify(images)
    assert defense.name != "stl_cluster" or len(set(whole.cluster.tolist())) > 1
    for rows in (list(range(8)), [5], [2, 3, 4], [7, 3, 1, 0, 2, 6, 5, 4]):
        part = defense.purify(images[rows])
        assert torch.equal(part.images, whole.images[rows])
        assert part.cluster.tolist() == whole.cluster[rows].tolist()
        assert part.iterations.tolist() == whole.iterations[rows].tolist()
        assert part.status == [whole.status[row] for row in rows]
        assert torch.equal(part.sparsity.nan_to_num(-1), whole.sparsity[rows].nan_to_num(-1))


def test_invariant_inputs_and_random_state_are_left_as_they_were(defense, images):
    before, state = images.clone(), torch.random.get_rng_state()
    defense.purify(images)
    assert torch.equal(images, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_roundtrip_identity_is_json_and_the_same_for_the_same_defense(defense, space):
    identity = defense.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["defense"] == defense.name
    assert make_defense(defense.name, {}, space=space, stl=StlConfig()).identity() == identity


@pytest.mark.parametrize("kind", ["black", "white", "flat", "grey", "one pixel"])
def test_certificate_plain_images_stay_finite(defense, images, kind):
    black = torch.zeros_like(images[:1])
    spot = black.clone()
    spot[0, 0, 16, 16] = 1
    image = {
        "black": black,
        "white": black + 1,
        "flat": quantize(black + torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1)),
        "grey": quantize(images[:1].mean(1, keepdim=True).expand(1, 3, 32, 32)),
        "one pixel": spot,
    }[kind]
    purified = defense.purify(image)
    assert bool(purified.images.isfinite().all())
    if kind in ("black", "white", "flat"):  # no defense invents structure
        torch.testing.assert_close(purified.images, image, rtol=0, atol=2 / 255)


@pytest.mark.parametrize("size", [(8, 8), (21, 34)])
@pytest.mark.filterwarnings("ignore:the space was learned at")
def test_identity_any_size(defense, images, size):
    batch = quantize(torch.nn.functional.interpolate(images[:2], size, mode="bilinear", antialias=True))
    assert defense.purify(batch).images.shape == batch.shape


def test_identity_deployed_is_rounded_before_and_after(defense, images):
    seen = deployed(defense, images + 0.4 / 255)
    assert torch.equal(seen, quantize(defense.purify(quantize(images + 0.4 / 255)).images))
    assert torch.equal(seen, quantize(seen))


@pytest.mark.parametrize("gradient", ["exact", "bpda"])
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
    torch.testing.assert_close(logits, classifier.logits(deployed(defense, images)))
    for rows in ([5], [7, 3, 1]):
        torch.testing.assert_close(
            victim.logits_and_vjp(images[rows], torch.ones_like)[1], product[rows], atol=1e-4, rtol=1e-3
        )


def test_invariant_exclude_changes_nothing_but_the_vote(defense, space, natural_images):
    images = quantize(natural_images)
    purified = defense.purify(images, exclude=IDS)
    if defense.name == "stl_cluster":
        assert purified.cluster.tolist() == space.route(images, exclude=IDS).tolist() != space.route(images).tolist()
    else:
        assert torch.equal(purified.images, defense.purify(images).images)


def test_identity_rows_of_stl_differ_in_the_space(space, natural_images):
    images = quantize(natural_images)
    for name, own in (("stl", space.universal()), ("stl_cluster", space)):
        purified = make_defense(name, {}, space=space, stl=StlConfig()).purify(images)
        assert torch.equal(purified.images, own.project(images).images)
        clusters = own.route(images).tolist() if name == "stl_cluster" else [-1] * len(images)
        assert purified.cluster.tolist() == clusters
    assert len(set(purified.cluster.tolist())) == 3


@pytest.mark.parametrize("name", DEFENSES)
def test_refuses_to_do_without_the_space_that_it_needs(name):
    if needs_space(name):
        with pytest.raises(ConfigError, match="space") as caught:
            make_defense(name, {}, space=None, stl=StlConfig())
        assert caught.value.item == name
    else:
        assert make_defense(name, {}, space=None, stl=StlConfig()).name == name
