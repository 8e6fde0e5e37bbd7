"""What holds for every defense in the registry, whatever its kind."""

import json

import pytest
import torch

from stl_ray.defenses import DEFENSES, Defended, Defense, deployed, deployed_seeds, make_defense, options_of
from stl_ray.errors import ConfigError, GradientError
from stl_ray.models import Classifier, build_classifier, predict


@pytest.fixture(params=DEFENSES)
def defense(request, made) -> Defense:
    return made(request.param)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval()


def test_roundtrip_identity_is_json_and_the_same_for_the_same_defense(defense, made):
    identity = defense.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["defense"] == defense.name
    assert made(defense.name).identity() == identity


def test_identity_views_are_transformations_of_one_kind_of_record(defense, classifier, images):
    assert defense.views and all(view.views == (view,) for view in defense.views)
    order = ["exact", "stand_in", "bpda"]
    assert list(defense.gradients) == [gradient for gradient in order if gradient in defense.gradients]
    assert defense.gradients[-1] == "bpda"
    model = Defended(classifier, defense, "none", seed=4)
    decisions = model.decide(images[:2], ["a", "b"])
    assert len(decisions.views) == len(defense.views) and len(decisions.status) == 2
    assert all(view.images.shape == images[:2].shape for view in decisions.views)


def test_invariant_verdicts_are_of_the_deployed_pipeline_and_of_the_image_alone(defense, classifier, images, ids):
    model = Defended(classifier, defense, "none", seed=4)
    state = torch.random.get_rng_state()
    whole = model.decide(images, ids[:8])
    assert torch.equal(torch.random.get_rng_state(), state)
    if len(defense.views) == 1 and defense.network(classifier, []) is classifier:
        seen = deployed(defense.views[0], images, deployed_seeds(4, ids[:8]))
        assert whole.prediction.tolist() == predict(classifier, seen).tolist()
    logits = model.verdict_logits(images, ids[:8])
    assert logits.argmax(1).tolist() == whole.prediction.tolist()
    # At once or in tiles: sums of another order.
    torch.testing.assert_close(whole.confidence, logits.softmax(1).amax(1), atol=1e-4, rtol=1e-3)
    for rows in ([5], [7, 3, 1, 0]):
        names = [ids[row] for row in rows]
        part = model.decide(images[rows], names)
        assert part.prediction.tolist() == whole.prediction[rows].tolist()
        assert torch.equal(part.confidence, whole.confidence[rows])
        assert part.status == [whole.status[row] for row in rows]
        assert all(
            torch.equal(one.images, all_.images[rows]) for one, all_ in zip(part.views, whole.views, strict=True)
        )
        torch.testing.assert_close(model.verdict_logits(images[rows], names), logits[rows], atol=1e-4, rtol=1e-3)


def test_invariant_seeds_of_the_run_matter_where_the_defense_draws_and_nowhere_else(defense, classifier, images, ids):
    def logits(seed: int) -> torch.Tensor:
        return Defended(classifier, defense, "none", seed=seed).verdict_logits(images, ids[:8])

    assert torch.equal(logits(4), logits(4))
    assert bool((logits(4) != logits(5)).any()) == defense.randomised


@pytest.mark.parametrize("gradient", ["exact", "stand_in", "bpda"])
def test_invariant_gradients_of_a_defended_classifier(defense, classifier, images, gradient):
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
        torch.testing.assert_close(logits, victim.verdict_logits(images, list("abcdefgh")))
    for rows in ([5], [7, 3, 1]):
        torch.testing.assert_close(
            victim.logits_and_vjp(images[rows], torch.ones_like)[1], product[rows], atol=1e-4, rtol=1e-3
        )


@pytest.mark.parametrize("name", DEFENSES)
def test_refuses_to_do_without_what_it_requires(name, resources, options):
    requires = options_of(name, options(name)).requires
    for missing in requires:
        with pytest.raises(ConfigError, match=f"without {missing}") as caught:
            make_defense(name, options(name), {key: value for key, value in resources(name).items() if key != missing})
        assert caught.value.item == name
    assert make_defense(name, options(name), {key: resources(name)[key] for key in requires}).name == name
