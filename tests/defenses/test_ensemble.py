from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from stl_ray.defenses import Defended, Defense, Transformation, make_defense
from stl_ray.defenses.crops import Crop
from stl_ray.defenses.ensemble import Ensemble
from stl_ray.defenses.undefended import Undefended
from stl_ray.errors import ConfigError
from stl_ray.evaluation import DefendedClassifier
from stl_ray.images import quantize
from stl_ray.models import build_classifier, predict
from tests.victims import Linear, cotangent

IDS = [f"test/{number}" for number in range(8)]


@pytest.fixture
def images(natural_images) -> Tensor:
    return quantize(natural_images[::3])


@pytest.fixture(scope="module")
def classifier():
    return build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()


def crops(count: int, share: float = 0.5) -> Ensemble:
    return Ensemble("crop_ensemble", ("none",), (Undefended(),), count, share)


def test_identity_a_verdict_is_that_of_the_mean_softmax(classifier, images):
    jpeg = make_defense("jpeg", {"quality": 10}, {})
    ensemble = make_defense("ensemble", {"of": ["none", "jpeg"]}, {"members": {"jpeg": jpeg}})
    seen = (images, quantize(jpeg.purify(images, seeds=[0] * 8).images))
    expected = torch.stack([classifier.logits(view).softmax(1) for view in seen]).mean(0)
    model = Defended(classifier, ensemble, "none")
    torch.testing.assert_close(model.verdict_logits(images, IDS).exp(), expected)
    assert model.decide(images, IDS).prediction.tolist() == expected.argmax(1).tolist()


def test_identity_one_member_alone_is_that_member(classifier, images):
    jpeg = make_defense("jpeg", {}, {})
    alone = Defended(classifier, Ensemble("ensemble", ("jpeg",), (jpeg,)), "none").decide(images, IDS)
    assert alone.prediction.tolist() == Defended(classifier, jpeg, "none").decide(images, IDS).prediction.tolist()


def test_identity_every_member_has_its_own_network_and_the_others_the_classifier(images):
    """By hand, of two crops for each of three members."""
    jpeg, flat = make_defense("jpeg", {"quality": 10}, {}), make_defense("mean_filter", {}, {})
    names = ("jpeg", "none", "flat")
    classifier, first, third = (build_classifier("small_cnn", ["a", "b", "c"], seed=seed).eval() for seed in (0, 1, 2))
    ensemble = Ensemble("crop_ensemble", names, (jpeg, Undefended(), flat), 2, 0.8, {"jpeg": first, "flat": third})
    model = Defended(classifier, ensemble, "none", seed=1)
    shown = [quantize(view.images) for view in model.purify(images, IDS)]
    networks = [first, first, classifier, classifier, third, third]
    expected = torch.stack(
        [network.logits(seen).softmax(1) for network, seen in zip(networks, shown, strict=True)]
    ).mean(0)
    torch.testing.assert_close(model.verdict_logits(images, IDS).exp(), expected)
    assert model.decide(images, IDS).prediction.tolist() == expected.argmax(1).tolist()
    assert (
        model.decide(images, IDS).prediction.tolist()
        != Defended(classifier, replace(ensemble, networks={}), "none", seed=1).decide(images, IDS).prediction.tolist()
    )


@pytest.mark.parametrize("networks", [0, 2], ids=["one network", "one for each member"])
def test_agrees_the_gradient_with_finite_differences_of_the_mean_softmax(images, networks):
    """Of the mean, not the mean of the views' own losses: here these point elsewhere."""
    weights, *others = (
        3 * torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5 + number)) / 10
        for number in range(1 + networks)
    )
    x = images[:3].double()
    ensemble = crops(4)
    if networks:
        own = {name: Linear(other) for name, other in zip("ab", others, strict=True)}
        ensemble = replace(ensemble, members=("a", "none", "b"), of=(Undefended(),) * 3, crops=2, networks=own)
    victim = Defended(Linear(weights), ensemble, "exact", rounded=False)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction[(x < 0.01) | (x > 0.99)] = 0
    _, gradient = victim.loop(IDS[:3]).logits_and_vjp(x, cotangent)
    step = 1e-6
    # The first call of every loop has the same draws.
    ahead, behind = (victim.loop(IDS[:3]).logits(x + sign * step * direction) for sign in (1, -1))
    measured = ((ahead - behind) * cotangent(ahead)).sum(1) / (2 * step)
    predicted = (gradient * direction).flatten(1).sum(1)
    torch.testing.assert_close(predicted, measured, rtol=1e-6, atol=1e-8)
    logits = [
        Defended(Linear(weights), view, "exact", rounded=False).loop(IDS[:3]).logits(x) for view in crops(4).views
    ]
    assert float((torch.stack(logits).softmax(2).amax(2) - 1 / 3).min()) > 0.05  # far from linear


def test_identity_by_a_stand_in_every_view_is_differentiated_by_its_strongest_gradient(images):
    jpeg, flat, few = (make_defense(name, {}, {}) for name in ("jpeg", "mean_filter", "bit_depth"))
    assert Ensemble("ensemble", ("flat", "none"), (flat, Undefended())).gradients == ("exact", "bpda")
    assert Ensemble("ensemble", ("few", "few"), (few, few)).gradients == ("bpda",)
    assert Ensemble("ensemble", ("flat", "few"), (flat, few)).gradients == ("stand_in", "bpda")
    mixed = Ensemble("ensemble", ("jpeg", "flat", "few"), (jpeg, flat, few))
    assert mixed.gradients == ("stand_in", "bpda")
    weights = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5)) / 100
    _, product = Defended(Linear(weights), mixed, "stand_in").logits_and_vjp(images, cotangent)
    # By hand, with weights so small that the mean softmax is linear: the mean of the views' own products.
    v = (weights[0] - weights[-1]).expand_as(images)
    modes = ((jpeg, "stand_in"), (flat, "exact"), (few, "bpda"))
    parts = [view.linearised(mode)(images, range(8))[1](v) for view, mode in modes]
    cosine = torch.nn.functional.cosine_similarity(product.flatten(1), sum(parts).flatten(1))
    assert float(cosine.min()) > 0.99


def test_identity_a_crop_is_a_rescaled_square_of_the_image(images):
    crop = Crop(0.5, Undefended())
    out = crop.purify(images, seeds=range(8)).images
    found = 0
    for image, shown in zip(images, out, strict=True):
        candidates = [
            interpolate(image[None, :, top : top + 16, left : left + 16], (32, 32), mode="bilinear")[0]
            for top in range(17)
            for left in range(17)
        ]
        found += any(torch.allclose(shown, candidate, atol=1e-6) for candidate in candidates)
    assert found == 8


def test_identity_whole_share_is_the_image(images):
    assert torch.equal(Crop(1.0, Undefended()).purify(images, seeds=range(8)).images, images)


def test_identity_crops_of_the_whole_image_are_passes_of_a_randomised_member(classifier, images):
    member = make_defense("resize_pad", {"smallest": 0.7}, {})
    options = {"of": ["padded"], "crops": 5, "share": 1.0}
    model = Defended(
        classifier, make_defense("crop_ensemble", options, {"members": {"padded": member}}), "none", seed=2
    )
    passes = model.purify(images, IDS)
    assert len({view.images[0].numpy().tobytes() for view in passes}) == 5
    expected = torch.stack([classifier.logits(quantize(view.images)).softmax(1) for view in passes]).mean(0)
    torch.testing.assert_close(model.verdict_logits(images, IDS).exp(), expected)


def test_invariant_every_crop_of_an_image_draws_for_itself(classifier, images):
    views = Defended(classifier, crops(6), "none", seed=1).purify(images, IDS)
    different = {view.images[0].numpy().tobytes() for view in views}
    assert len(different) >= 4


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("side", [9, 32, 33])
def test_invariant_white_stays_white_and_keeps_its_gradient(share, side):
    for level in (0.0, 1.0):
        image = torch.full((1, 3, side, side), level)
        seen, pullback = Crop(share, Undefended()).linearised("exact")(image, [5])
        assert torch.equal(seen, image)
        assert float(pullback(torch.ones_like(image)).sum()) == pytest.approx(image.numel(), rel=1e-5)


def test_invariant_attacks_count_crops_as_samples(classifier, images):
    asked: list[int] = []

    class Counting:
        def logits(self, images: Tensor) -> Tensor:
            asked.append(len(images))
            return classifier.logits(images)

        def logits_and_vjp(self, images, cotangent):
            return classifier.logits_and_vjp(images, cotangent)

    jpeg = make_defense("jpeg", {}, {})
    both = Ensemble(
        "ensemble", ("crop", "jpeg"), (Crop(0.5, Undefended()), jpeg)
    )  # of which none is a sample of the other
    for ensemble, samples, passes in ((crops(5), 1, 5), (crops(5), 12, 15), (both, 3, 6)):
        asked.clear()
        defended = DefendedClassifier.of(ensemble, Counting(), "digest", 0)
        defended.victim(defended.strongest, samples).logits(images)
        assert len(asked) == passes


@dataclass(frozen=True)
class Dropping(Defense):
    """A wrapped network that drops a third of the pixels by the image's seed before the classifier."""

    name = "dropping"
    randomised = True

    @property
    def views(self) -> tuple[Transformation, ...]:
        return (Undefended(), Undefended())

    def identity(self):
        return {"defense": self.name}

    def network(self, classifier, seeds: Sequence[int], view: int = 0):
        class Wrapped:
            def kept(self, images: Tensor) -> Tensor:
                assert len(images) == len(seeds)
                masks = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(s)) > 0.3 for s in seeds]
                return torch.stack(masks).to(images)

            def logits(self, images: Tensor) -> Tensor:
                return classifier.logits(images * self.kept(images))

            def logits_and_vjp(self, images, cotangent):
                kept = self.kept(images)
                logits, product = classifier.logits_and_vjp(images * kept, cotangent)
                return logits, product * kept

        return Wrapped()


def test_invariant_a_wrapped_network_draws_by_the_image_whatever_the_batch(classifier, natural_images):
    images = quantize(natural_images)  # more than a tile
    ids = [f"test/{number}" for number in range(len(images))]
    model = Defended(classifier, Dropping(), "none", seed=3)
    whole = model.decide(images, ids)
    assert any(
        replace(model, seed=seed).decide(images, ids).prediction.tolist() != whole.prediction.tolist()
        for seed in range(4)
    )
    rows = [17, 3, 22]
    part = model.decide(images[rows], [ids[row] for row in rows])
    assert part.prediction.tolist() == whole.prediction[rows].tolist()
    assert predict(classifier, images).shape == whole.prediction.shape
    logits = model.verdict_logits(images[rows], [ids[row] for row in rows])
    torch.testing.assert_close(logits, model.verdict_logits(images, ids)[rows], atol=1e-5, rtol=1e-4)


def test_agrees_the_gradient_through_a_wrapped_network_with_finite_differences(images):
    weights = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5)) / 3
    x = images[:2].double()
    victim = Defended(Linear(weights), Dropping(), "exact", rounded=False)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    _, gradient = victim.loop(IDS[:2]).logits_and_vjp(x, cotangent)
    ahead, behind = (victim.loop(IDS[:2]).logits(x + sign * 1e-6 * direction) for sign in (1, -1))
    measured = ((ahead - behind) * cotangent(ahead)).sum(1) / 2e-6
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), measured, rtol=1e-6, atol=1e-8)


def test_refuses_members_that_are_not_there():
    with pytest.raises(ConfigError, match="without members"):
        make_defense("ensemble", {"of": ["jpeg", "none"]}, {})
    with pytest.raises(ConfigError):
        make_defense("ensemble", {"of": ["none"]}, {})
    with pytest.raises(ConfigError):
        make_defense("crop_ensemble", {"share": 0.0}, {})
