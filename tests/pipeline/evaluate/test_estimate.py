"""The counted work of the tiers and their checks beside the work that is really done."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from stl_ray.evaluation.cost_model import BACKWARD, FORWARD, PULLBACK, WARM
from stl_ray.evaluation.sanity import probe
from stl_ray.images import quantize
from stl_ray.pipeline.estimate.adaptive import counted
from stl_ray.pipeline.evaluate.adaptive.checks import subject_in
from stl_ray.pipeline.evaluate.adaptive.context import Context
from stl_ray.pipeline.evaluate.adaptive.verdicts import verdicts_of

TILE = 16


class Watched:
    """A classifier that counts the images of its forward and backward passes."""

    training = False

    def __init__(self, inner):
        self.inner, self.found = inner, Counter()

    def logits(self, images):
        self.found[FORWARD] += len(images)
        return self.inner.logits(images)

    def logits_and_vjp(self, images, cotangent):
        self.found.update({FORWARD: len(images), BACKWARD: len(images)})
        return self.inner.logits_and_vjp(images, cotangent)


@pytest.fixture
def context(experiment) -> Context:
    tiers = experiment.evaluate.tiers.model_copy(update={"cascade": False})
    own = experiment.model_copy(update={"evaluate": experiment.evaluate.model_copy(update={"tiers": tiers})})
    (context,) = Context.all_of(own, "cpu")
    return context


@pytest.fixture
def tile(natural_images) -> torch.Tensor:
    return quantize(natural_images[:TILE, :, :16, :16])


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("none", "verdicts"),
        ("jpeg", "verdicts"),
        ("stl", "verdicts"),
        pytest.param("jpeg", "probes", marks=pytest.mark.faults),
        ("stl", "probes"),
    ],
)
def test_agrees_what_is_counted_with_what_is_done(context, tile, name, part):
    defended = context.defended[name]
    watched = Watched(defended.classifier)
    real = replace(context, block=replace(context.block, defended={name: replace(defended, classifier=watched)}))
    labels = defended.classifier.logits(tile).argmax(1)
    ids = [str(number) for number in range(TILE)]
    if part == "verdicts":
        verdicts_of(real, name, tile, labels, ids, {})
    else:
        probe(subject_in(real, name), tile, labels, ids, [False] * TILE)
    one_tile = counted(context, name, part, 16)
    own = one_tile.own.images
    # No attack stops early but Square, and that only at what falls: the counted ones never do.
    assert own[BACKWARD] == watched.found[BACKWARD] > 0
    assert 0.7 * own[FORWARD] <= watched.found[FORWARD] <= own[FORWARD]
    if name == "stl":
        assert own[WARM] > 0.8 * own[PULLBACK] > 0
    assert one_tile.bytes > 0 and one_tile.seconds > 0
    assert (sum(one_tile.substitute.images.values()) > 0) == (part == "verdicts" and name != "none")


def test_identity_the_work_follows_the_configuration(context):
    def steps(number: int) -> int:
        tiers = context.experiment.evaluate.tiers
        attacks = tuple(
            item.model_copy(update={"options": {"steps": number}}) for item in tiers.attacks if item.tier == "T4"
        )
        tiers = tiers.model_copy(update={"attacks": attacks})
        evaluate = context.experiment.evaluate.model_copy(update={"tiers": tiers})
        own = replace(context, experiment=context.experiment.model_copy(update={"evaluate": evaluate}))
        return counted(own, "stl", "verdicts", 16).own.images[BACKWARD]

    assert steps(7) - steps(3) == 4 * TILE


def test_identity_the_work_is_the_same_whatever_the_defense_is_called(context):
    same = counted(context, "jpeg", "verdicts", 16)
    renamed = replace(
        context,
        block=replace(context.block, defended={"substitute": context.defended["jpeg"]}),
        substitute={"substitute": context.substitute["jpeg"]},
    )
    found = counted(renamed, "substitute", "verdicts", 16)
    assert (found.own, found.substitute) == (same.own, same.substitute)
    assert min(work.images[BACKWARD] for work in (found.own, found.substitute)) > 0
