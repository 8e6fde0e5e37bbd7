from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stl_ray.csc import Dictionary, tolerances
from stl_ray.defenses import (
    DIVERGED,
    Defended,
    Defense,
    Purified,
    SparseTransformation,
    Transformation,
    make_defense,
)
from stl_ray.defenses.stl import StlOptions
from stl_ray.errors import GradientError, TensorError
from stl_ray.images import quantize
from stl_ray.models import Victim, build_classifier, in_loop, seeded
from stl_ray.rightness import NO_VERDICT
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails
from tests.victims import Linear, cotangent

IDS = [f"test/{index}" for index in range(24)]
SEEDS = range(8)


def dictionary(seed: int) -> Dictionary:
    filters = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    filters = filters - filters.mean((2, 3), keepdim=True)
    return Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], lmbda=0.1)


@pytest.fixture(scope="module")
def space(natural_images) -> QuasiNaturalSpace:
    autoencoder = seeded(Autoencoder, 0).eval()
    latents = encode(autoencoder, thumbnails(natural_images, 32))
    clusters = fit_clusters(latents, clusters=3, pca_components=8, restarts=2, seed=0)
    router = Router(autoencoder, clusters, hash_ids(IDS), neighbours=1)
    return QuasiNaturalSpace(dictionary(9), tuple(map(dictionary, range(3))), 0.1, router, resolution=32)


@pytest.fixture(scope="module")
def classifier() -> Victim:
    return build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()


@pytest.fixture
def images(natural_images) -> Tensor:
    return quantize(natural_images[::3])


def stl(space: QuasiNaturalSpace, name: str = "stl", **options) -> Defense:
    return make_defense(name, options, {"space": space, "solver": "auto"})


@pytest.fixture(scope="module")
def linear() -> Linear:
    return Linear(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5)))


@dataclass(frozen=True)
class Noise(Transformation):
    """Adds Gaussian noise."""

    scale: float = 0.1
    name = "noise"
    randomised = True
    gradients = ("exact", "bpda")

    def identity(self):
        return {"defense": self.name, "scale": self.scale}

    def purify(self, images: Tensor, *, seeds: Sequence[int], exclude=None) -> Purified:
        noise = [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return Purified.without_solver((images + self.scale * torch.stack(noise)).clamp(0, 1))


@pytest.mark.parametrize("name", ["stl", "stl_cluster"])
@pytest.mark.parametrize("normalization", ["clip", "reference"])
@pytest.mark.filterwarnings("ignore:the space was learned at")
def test_agrees_with_finite_differences(space, linear, images, name, normalization):
    """In float64, and at a solve certified to more digits than a tier has, so that a small step shows."""
    tight = replace(tolerances("exact"), gap=1e-11)
    options = StlOptions.model_construct(accuracy=tight, normalization=normalization)
    defense = SparseTransformation(name, space if name == "stl_cluster" else space.universal(), options, "admm")
    x = images[:3, :, :16, :16].double()
    weights = Linear(linear.weights[..., :16, :16])
    victim = Defended(weights, defense, "exact", rounded=False)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction[(x < 0.01) | (x > 0.99)] = 0  # stay in the box, off the kinks of the clip
    _, gradient = victim.logits_and_vjp(x, cotangent)
    step = 1e-5
    ahead, behind = (victim.logits(x + sign * step * direction) for sign in (1, -1))
    measured = ((ahead - behind) * cotangent(ahead)).sum(1) / (2 * step)
    predicted = (gradient * direction).flatten(1).sum(1)
    torch.testing.assert_close(predicted, measured, rtol=1e-3, atol=1e-3 * float(measured.abs().max()))


def test_identity_verdicts_are_those_of_the_deployed_pipeline(space, classifier, images):
    defense = stl(space)
    victim = Defended(classifier, defense)
    moved = images + 0.4 / 255
    floating = defense.purify(images, seeds=SEEDS).images
    expected = classifier.logits(quantize(floating))
    assert torch.equal(victim.logits(moved), expected)
    loop = victim.loop(IDS[:8])
    loop.logits_and_vjp(images + 0.01, cotangent)
    assert torch.equal(loop.logits(moved), expected)  # cold, whatever the loop did before
    assert torch.equal(replace(victim, rounded=False).logits(images), classifier.logits(floating))


def test_identity_bpda_is_the_classifiers_gradient_behind_the_defense(space, classifier, images):
    defense = stl(space)
    logits, product = Defended(classifier, defense, "bpda").logits_and_vjp(images, cotangent)
    behind = quantize(defense.purify(images, seeds=SEEDS).images)
    expected_logits, expected = classifier.logits_and_vjp(behind, cotangent)
    torch.testing.assert_close(logits, expected_logits)
    torch.testing.assert_close(product, expected)


def test_identity_no_defense_is_the_classifier(classifier, images):
    none = make_defense("none", {}, {})
    for gradient in ("exact", "bpda"):
        for ours, theirs in zip(
            Defended(classifier, none, gradient).logits_and_vjp(images, cotangent),
            classifier.logits_and_vjp(images, cotangent),
            strict=True,
        ):
            assert torch.equal(ours, theirs)


def test_invariant_exact_and_bpda_differ(space, classifier, images):
    exact, bpda = (Defended(classifier, stl(space), g).logits_and_vjp(images, cotangent)[1] for g in ("exact", "bpda"))
    cosine = torch.nn.functional.cosine_similarity(exact.flatten(1), bpda.flatten(1))
    assert float(cosine.max()) < 0.99
    assert float(cosine.min()) > 0


@pytest.mark.parametrize("name", ["stl", "stl_cluster"])
@pytest.mark.parametrize("gradient", ["exact", "bpda"])
def test_invariant_a_loop_depends_on_the_image_alone(space, classifier, images, name, gradient):
    victim = Defended(classifier, stl(space, name), gradient)

    def last(rows: list[int]) -> Tensor:
        loop, x = in_loop(victim, [IDS[row] for row in rows]), images[rows]
        for _ in range(4):
            _, product = loop.logits_and_vjp(x, cotangent)
            x = (x + 0.02 * product.sign()).clamp(0, 1)
        return x

    whole = last(list(range(8)))
    for rows in ([3], [5, 0, 6]):
        # The projection of an image is the same to the bit; a network's kernels go by the size of the batch.
        assert float((last(rows) - whole[rows]).abs().mean()) < 1e-4


def test_agrees_warm_with_cold(space, classifier, images):
    victim = Defended(classifier, stl(space, accuracy="reference"), "exact")
    loop = victim.loop(IDS[:8])
    loop.logits_and_vjp(images, cotangent)
    warm = loop.logits_and_vjp(images + 0.004, cotangent)[1]
    cold = victim.logits_and_vjp(images + 0.004, cotangent)[1]
    assert not torch.equal(warm, cold)
    cosine = torch.nn.functional.cosine_similarity(warm.flatten(1), cold.flatten(1))
    assert float(cosine.min()) > 0.9


def test_invariant_one_solve_for_many_products_at_one_point(space, classifier, images):
    class Counting(type(stl(space))):
        def linearised(self, gradient):
            inner = super().linearised(gradient)

            def linearise(*args):
                calls.append(1)
                return inner(*args)

            return linearise

    calls: list[int] = []
    plain = stl(space)
    loop = Defended(classifier, Counting(plain.name, plain.space, plain.options, plain.method), "exact").loop(IDS[:8])
    first = loop.logits_and_vjp(images, cotangent)[1]
    second = loop.logits_and_vjp(images, lambda logits: 2 * cotangent(logits))[1]
    torch.testing.assert_close(second, 2 * first)
    loop.logits_and_vjp(images + 0.01, cotangent)
    assert len(calls) == 2


def test_identity_the_gradient_through_another_cluster(space, classifier, images):
    own = stl(space, "stl_cluster")
    predicted = own.purify(images, seeds=SEEDS).cluster
    cluster = int(predicted[0])
    forced = own.routed_to(cluster)
    victim = Defended(classifier, own, "exact", through=forced)
    product = victim.logits_and_vjp(images, cotangent)[1]
    assert torch.equal(product, Defended(classifier, forced, "exact").logits_and_vjp(images, cotangent)[1])
    assert torch.equal(victim.logits(images), Defended(classifier, own).logits(images))
    unforced = Defended(classifier, own, "exact").logits_and_vjp(images, cotangent)[1]
    same = (product == unforced).flatten(1).all(1)
    assert same.tolist() == (predicted == cluster).tolist()
    assert 0 < int(same.sum()) < len(images)
    with pytest.raises(TensorError):
        own.routed_to(3)


def test_invariant_the_classifier_is_left_as_it_was(space, classifier, images):
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    x = images.clone()
    Defended(classifier, stl(space)).logits_and_vjp(x, cotangent)
    assert torch.equal(x, images)
    assert x.requires_grad is False
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert classifier.training is False


def test_invariant_a_diverged_solve_has_finite_logits_no_gradient_and_no_verdict(classifier, images):
    class Lost(Noise):
        def purify(self, images, *, seeds, exclude=None):
            purified = Purified.without_solver(images.clone())
            purified.images[2] = torch.nan
            purified.status[2] = DIVERGED
            return purified

    victim = Defended(classifier, Lost(), "bpda")
    logits, product = victim.logits_and_vjp(images, cotangent)
    expected_logits, expected = Defended(classifier, make_defense("none", {}, {})).logits_and_vjp(images, cotangent)
    others = [0, 1, 3, 4, 5, 6, 7]
    torch.testing.assert_close(logits[others], expected_logits[others])
    torch.testing.assert_close(product[others], expected[others])
    black = classifier.logits(torch.zeros_like(images[:1]))
    for found in (logits, victim.logits(images), victim.verdict_logits(images, IDS[:8])):
        torch.testing.assert_close(found[2:3], black)
    assert not product[2].any()
    decided = victim.decide(images, IDS[:8])
    assert decided.prediction.tolist() == [
        NO_VERDICT if row == 2 else int(prediction) for row, prediction in enumerate(expected_logits.argmax(1))
    ]
    assert decided.status[2] == DIVERGED
    assert decided.confidence[2] == 0
    torch.testing.assert_close(decided.confidence[others], expected_logits.softmax(1).amax(1)[others])


def test_identity_expectation_over_transformation(linear, images):
    """The mean over more draws comes nearer to the gradient of the expectation, here that of no noise."""
    errors = []
    expected = linear.logits(images)
    for samples in (1, 16):
        victim = Defended(linear, Noise(0.02), "bpda", samples=samples)
        logits, _ = victim.loop(IDS[:8]).logits_and_vjp(images, cotangent)
        errors.append(float((logits - expected).square().mean()))
    assert errors[1] < errors[0] / 4


def test_invariant_draws_come_from_the_item_and_the_call(linear, images):
    victim = Defended(linear, Noise(), "bpda", samples=2)

    def calls(rows: list[int]) -> list[Tensor]:
        loop = victim.loop([IDS[row] for row in rows])
        return [loop.logits_and_vjp(images[rows], cotangent)[0] for _ in range(3)]

    whole = calls(list(range(8)))
    assert all(not torch.equal(first, second) for first, second in pairwise(whole))
    for ours, theirs in zip(calls([6, 1]), whole, strict=True):
        torch.testing.assert_close(ours, theirs[[6, 1]])
    # Without ids an image's own pixels stand for it.
    alone = victim.logits(images)
    torch.testing.assert_close(victim.logits(images[[2]]), alone[[2]])
    assert not torch.equal(Defended(linear, Noise(), "bpda", samples=2, seed=1).logits(images), alone)
    # A tile may be padded behind its items; a loop over more items than there are images is another loop.
    padded = victim.loop(IDS[:3]).logits(images)
    torch.testing.assert_close(padded[:3], victim.loop(IDS[:8]).logits(images)[:3])
    with pytest.raises(TensorError, match="other items"):
        victim.loop(IDS[:9]).logits(images)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda c, jpeg, stl: Defended(c, jpeg, "exact"), GradientError),
        (lambda c, jpeg, stl: Defended(c, stl, "exact", through=jpeg), GradientError),
        (lambda c, jpeg, stl: Defended(c, stl, "unrolled"), GradientError),
        (lambda c, jpeg, stl: Defended(c, stl, samples=0), TensorError),
    ],
)
def test_refuses_gradients_that_there_are_not(space, classifier, make, error):
    jpeg = make_defense("jpeg", {}, {})
    with pytest.raises(error):
        make(classifier, jpeg, stl(space))


def test_refuses_a_gradient_of_none_but_not_a_verdict(space, classifier, images):
    victim = Defended(classifier, stl(space), "none")
    with pytest.raises(GradientError, match="needs none"):
        victim.logits_and_vjp(images, cotangent)
    assert torch.equal(victim.logits(images), Defended(classifier, stl(space)).logits(images))


def test_identity_a_plain_classifier_is_its_own_loop(classifier):
    assert in_loop(classifier, IDS) is classifier
