import pyarrow as pa
import pytest
import torch

from stl_ray.attacks import Budget, make_attack
from stl_ray.csc import Dictionary
from stl_ray.defenses import Defended, make_defense
from stl_ray.errors import TensorError
from stl_ray.evaluation.budget_usage import budget_usage
from stl_ray.evaluation.sanity import PROBES_SCHEMA, ProbeTable, Stored, Subject, check_all, probe
from stl_ray.evaluation.sanity.attacks import WatchedVictim, sweep_sizes
from stl_ray.evaluation.sanity.probing import _differentiate
from stl_ray.evaluation.sanity.table import ProbeAnswers
from stl_ray.images import quantize
from stl_ray.models import build_classifier, predict
from stl_ray.space import QuasiNaturalSpace

IDS = [f"test/{index}" for index in range(4)]


@pytest.fixture(scope="module")
def images(natural_images) -> torch.Tensor:
    return quantize(natural_images[::6, :, :16, :16])


@pytest.fixture(scope="module")
def victim() -> Defended:
    filters = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    filters = filters - filters.mean((2, 3), keepdim=True)
    space = QuasiNaturalSpace.from_dictionary(
        Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], lmbda=0.1)
    )
    defense = make_defense("stl", {}, {"space": space, "solver": "auto"})
    return Defended(build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval(), defense)


def flags(victim, images, labels, stored=None, chance=0.5) -> dict[str, dict]:
    subject = Subject(victim, Budget(size=0.05), "u8", seed=3)
    rows = probe(subject, images, labels, IDS, [True] * 2 + [False] * 2, stored)
    probes = ProbeTable.of(pa.Table.from_pylist(rows, schema=PROBES_SCHEMA), "stl")
    record = dict.fromkeys(("attacks", "budget", "classifier", "defense", "ids_sha256", "seed", "version"), "x")
    scores = {"images": 1000, "steps": [], "largest_share": None}
    found = check_all(probes, chance=chance, samples=1, scores=scores, store="u8", ids=frozenset("a"), record=record)
    return {flag["check"]: flag for flag in found}


class Masked:
    """A classifier with right predictions and zero gradients."""

    training = False

    def __init__(self, inner):
        self.inner = inner

    def logits(self, images):
        return self.inner.logits(images)

    def logits_and_vjp(self, images, cotangent):
        logits, product = self.inner.logits_and_vjp(images, cotangent)
        return logits, torch.zeros_like(product)


class Scaled:
    """A classifier whose logits are multiplied by a power of two."""

    training = False

    def __init__(self, inner, scale):
        self.inner, self.scale = inner, scale

    def logits(self, images):
        return self.scale * self.inner.logits(images)

    def logits_and_vjp(self, images, cotangent):
        logits, product = self.inner.logits_and_vjp(images, lambda logits: cotangent(self.scale * logits))
        return self.scale * logits, self.scale * product


@pytest.fixture(scope="module")
def bare(images) -> Defended:
    return Defended(build_classifier("small_cnn", ["a", "b", "c"], seed=0).eval(), make_defense("none", {}, {}))


@pytest.fixture(scope="module")
def unscaled(bare, images) -> dict[str, dict]:
    return flags(bare, images, predict(bare, images), chance=1 / 3)


@pytest.mark.parametrize("power", [-60, -30, -10])
def test_invariant_verdicts_do_not_depend_on_the_scale_of_logits(bare, images, unscaled, power):
    labels = predict(bare, images)
    found = flags(Defended(Scaled(bare.classifier, 2.0**power), bare.defense), images, labels, chance=1 / 3)
    assert {check: flag["state"] for check, flag in found.items()} == {
        check: flag["state"] for check, flag in unscaled.items()
    }
    assert found["H8"]["state"] == "passed", found["H8"]
    # What does not go through the cross-entropy, to the last bit.
    for check, part in (("H8", "median error against finite differences"), ("H11", "alone they differ by")):
        assert found[check]["finding"].partition(part)[2] == unscaled[check]["finding"].partition(part)[2]


def test_identity_a_cross_entropy_that_saturates_raises_and_the_images_are_counted(bare, images, unscaled):
    labels = predict(bare, images)
    found = flags(Defended(Scaled(bare.classifier, 2.0**20), bare.defense), images, labels, chance=1 / 3)
    assert found["H8"]["state"] == "raised"
    assert found["H8"]["finding"].startswith("4 zero and 0 not finite of 4; the loss rises for 0.0%")
    assert {check for check in found if found[check]["state"] != unscaled[check]["state"]} >= {"H8", "H3"}
    assert all(found[check] == unscaled[check] for check in ("H10", "H14", "H15"))


@pytest.mark.parametrize("power", [-60, -10])
def test_invariant_gradients_through_the_projection_are_measured_alike_at_every_scale(victim, images, power):
    labels = predict(victim, images)
    measured = []
    for scale in (1.0, 2.0**power):
        answers = ProbeAnswers(labels)
        deployed = Defended(Scaled(victim.classifier, scale), victim.defense)
        _differentiate(Subject(deployed, Budget(size=0.05), "u8", seed=3), images, labels, IDS, [True] * 4, answers)
        measured.append(answers.measures)
    one, other = measured
    assert one["loss rises"] == other["loss rises"] == [1.0] * 4
    assert one["finite difference error"] == other["finite difference error"]
    torch.testing.assert_close(
        torch.tensor(other["cosine of BPDA to exact"]), torch.tensor(one["cosine of BPDA to exact"]), rtol=0, atol=0.2
    )


@pytest.mark.parametrize(("name", "samples"), [("resize_pad", 3), ("median_filter", 1)])
def test_identity_differences_are_of_the_same_draws_and_off_the_grid(victim, images, name, samples):
    """Other draws differ by more than a step, and on the 8-bit grid a median has ties, where it has no derivative."""
    labels = predict(victim, images)
    answers = ProbeAnswers(labels)
    deployed = Defended(victim.classifier, make_defense(name, {}, {}), samples=samples)
    _differentiate(Subject(deployed, Budget(size=0.05), "u8", seed=3), images, labels, IDS, [True] * 4, answers)
    assert answers.measures["loss rises"] == [1.0] * 4
    assert torch.tensor(answers.measures["finite difference error"]).median() < 0.01


def test_identity_a_sound_pipeline_and_one_whose_gradient_is_masked(victim, images):
    labels = predict(victim, images)
    over = Stored((images + 0.2).clamp(0, 1), Budget(size=0.01), "u8")
    own = flags(victim, images, labels)
    assert {check: own[check]["state"] for check in ("H1", "H8", "H10", "H11")} == dict.fromkeys(
        ("H1", "H8", "H10", "H11"), "passed"
    ), own
    masked = Defended(Masked(victim.classifier), victim.defense)
    other = flags(masked, images, labels, {"set": over})
    assert other["H1"]["state"] == "raised"  # the stored set is over its budget
    assert other["H8"]["state"] == "raised"
    assert other["H3"]["state"] == "raised"  # without a gradient no budget breaks anything


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_identity_few_classes_and_a_split_of_one_are_checked(victim, images, classes):
    few = Defended(build_classifier("small_cnn", list("abc")[:classes], seed=0).eval(), victim.defense)
    found = flags(few, images, torch.zeros(4, dtype=torch.int64), chance=1 / classes)
    # Of one class nothing can be misclassified; what is left is still looked at.
    left = {"H1", "H10", "H11", "H14", "H15"}
    assert {check for check, flag in found.items() if flag["state"] != "not_run"} >= left
    assert all((flag["state"] == "not_run") == (classes == 1) for check, flag in found.items() if check not in left)
    assert found["H10"]["state"] == "passed"
    assert found["H11"]["state"] == "passed", found["H11"]
    if classes == 1:
        assert found["H8"]["finding"] == "of one class no image can be misclassified"


def test_refuses_a_label_that_is_no_class(victim, images):
    with pytest.raises(TensorError, match="no class of the victim; expected 0 to 2; got 3"):
        flags(victim, images, torch.tensor([0, 1, 3, 0]))


def test_identity_a_watched_victim_records_misclassified_items(victim, images):
    labels = predict(victim, images)
    labels[1] = (labels[1] + 1) % 3
    watched = WatchedVictim(victim, {name: int(label) for name, label in zip(IDS, labels, strict=True)})
    loop = watched.loop(IDS)
    assert torch.equal(loop.logits(images), victim.logits(images))
    assert watched.misclassified == set()
    padded = torch.cat([images, images.new_zeros(2, 3, 16, 16)])
    loop.logits_and_vjp(padded, torch.ones_like)
    assert watched.misclassified == {IDS[1]}


def test_certificate_whole_levels_use_a_whole_budget_and_no_more():
    levels = torch.arange(256).repeat(3).reshape(1, 3, 16, 16)
    clean, moved = levels / 255, (levels + torch.where(levels < 252, 4, -4)) * (1 / 255)
    for images in (moved, clean + (moved - clean)):
        assert budget_usage(images, clean, Budget(kind="linf", size=4 / 255)).tolist() == pytest.approx(
            [1.0], abs=1e-12
        )


def test_identity_budget_usage_by_hand(images):
    moved = (images + 10 / 255).clamp(0, 1)
    size = (moved - images).double().flatten(1).norm(dim=1) / images.double().flatten(1).norm(dim=1)
    torch.testing.assert_close(budget_usage(moved, images, Budget(size=0.02)), size / 0.02, rtol=1e-6, atol=0)
    linf = (moved - images).double().flatten(1).abs().amax(1)
    torch.testing.assert_close(
        budget_usage(moved, images, Budget(kind="linf", size=8 / 255)), linf / (8 / 255), rtol=1e-5, atol=0
    )
    black = torch.zeros_like(images)
    assert budget_usage(black, black, Budget(size=0.02)).tolist() == [0.0] * 4
    assert budget_usage(images, black, Budget(size=0.02)).tolist() == [float("inf")] * 4


def test_identity_the_sweep_ends_at_the_largest_budget():
    assert sweep_sizes(Budget(size=0.03), "u8") == pytest.approx([0.0075, 0.015, 0.03, 0.06, 0.12, 1])
    assert sweep_sizes(Budget(size=0.5), "u8") == pytest.approx([0.125, 0.25, 0.5, 1])
    assert sweep_sizes(Budget(kind="linf", size=8 / 255), "u8")[-1] == 1


@pytest.mark.parametrize(
    ("levels", "store", "sizes"),
    [
        (1, "u8", [1, 2, 4, 255]),
        (2, "u8", [1, 2, 4, 8, 255]),
        (6, "u8", [1, 3, 6, 12, 24, 255]),
        (8, "u8", [2, 4, 8, 16, 32, 255]),
        (1, "f32", [0.25, 0.5, 1, 2, 4, 255]),
    ],
)
def test_invariant_8_bits_sweep_over_whole_levels(levels, store, sizes):
    budget = Budget(kind="linf", size=levels / 255)
    assert [255 * size for size in sweep_sizes(budget, store)] == pytest.approx(sizes)
    for size in sweep_sizes(budget, store):
        make_attack("pgd", {}).check(budget.model_copy(update={"size": size}), store)
