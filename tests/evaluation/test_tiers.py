import pyarrow as pa
import pytest

from stl_ray.errors import InputError
from stl_ray.evaluation import VERDICTS_SCHEMA, cascade_scores, with_further
from stl_ray.evaluation.tiers import survivors
from stl_ray.statistics import wilson
from stl_ray.threats import ThreatTier


def verdict(attack: str, tier: str, prediction: int, status: str = "ok", *, rejected: bool = False) -> dict:
    return {
        "attack": attack, "tier": tier, "prediction": prediction, "rejected": rejected, "status": status, "dissimilarity": 0.03, "linf": 0.1,
        "queries": 20, "share": 0.99,
    }  # fmt: skip


ORDER = {"bpda": ThreatTier.BPDA, "exact": ThreatTier.WHITE_BOX}


def table(rows: list[list[dict]], labels: list[int] | None = None, ids: list[str] | None = None) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "id": f"test/{number}" if ids is None else ids[number],
                "label": 0 if labels is None else labels[number],
                "verdicts": verdicts,
            }
            for number, verdicts in enumerate(rows)
        ],
        schema=VERDICTS_SCHEMA,
    )


CLEAN = verdict("clean", "T0", 0, "clean")
# Wrong when clean; misclassified under the first attack; under the second; under none.
CASCADE = [
    [verdict("clean", "T0", 1, "clean")],
    [CLEAN, verdict("bpda", "T3", 2)],
    [CLEAN, verdict("bpda", "T3", 0), verdict("exact", "T4", 1)],
    [CLEAN, verdict("bpda", "T3", 0), verdict("exact", "T4", 0, "budget_unreachable")],
]


def test_identity_a_cascade_by_hand():
    scores = cascade_scores(table(CASCADE), "stl", ORDER)
    counts = [
        tuple(step[name] for name in ("attack", "tier", "attacked", "held", "out_of_time", "correct"))
        for step in scores["steps"]
    ]
    assert counts == [
        ("clean", "T0", 4, 3, 0, 3), ("bpda", "T3", 3, 2, 0, 2), ("exact", "T4", 2, 1, 0, 1),
    ]  # fmt: skip
    low, high = wilson(1, 4)[1:]
    assert scores["worst"] == {"correct": 1, "total": 4, "accuracy": 0.25, "low": low, "high": high}
    assert scores["images"] == 4
    assert scores["complete"]
    assert scores["steps"][2]["statuses"] == {"budget_unreachable": 1, "ok": 1}


def test_invariant_the_worst_case_with_and_without_a_cascade():
    everything = [
        [verdict("clean", "T0", 1, "clean"), verdict("bpda", "T3", 1), verdict("exact", "T4", 0)],
        [CLEAN, verdict("bpda", "T3", 2), verdict("exact", "T4", 0)],
        *CASCADE[2:],
    ]
    whole, spared = cascade_scores(table(everything), "stl", ORDER), cascade_scores(table(CASCADE), "stl", ORDER)
    assert whole["worst"] == spared["worst"]
    assert [step["correct"] for step in whole["steps"]] == [step["correct"] for step in spared["steps"]]
    assert [step["attacked"] for step in whole["steps"]] == [4, 4, 4]
    assert whole["steps"][2]["held"] == 3  # images that the weaker attack broke are among them


def test_invariant_order_of_rows():
    assert cascade_scores(table(CASCADE).take([2, 0, 3, 1]), "stl", ORDER) == cascade_scores(
        table(CASCADE), "stl", ORDER
    )


def test_identity_an_image_out_of_time_is_not_attacked():
    rows = [[CLEAN, verdict("bpda", "T3", -1, "out_of_time")], [CLEAN, verdict("bpda", "T3", 0)]]
    scores = cascade_scores(table(rows), "stl", {"bpda": ThreatTier.BPDA})
    assert not scores["complete"]
    assert (scores["steps"][1]["attacked"], scores["steps"][1]["out_of_time"], scores["worst"]["correct"]) == (1, 1, 2)


def test_identity_survivors():
    labels = [0, 0, 0, 0]
    assert survivors(labels, [row[:1] for row in CASCADE]) == [1, 2, 3]
    assert survivors(labels, CASCADE) == [3]
    assert survivors([0], [[CLEAN, verdict("bpda", "T3", -1, "out_of_time")]]) == [0]


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        ([], None, "not a table of verdicts"),
        ([[CLEAN], [CLEAN]], ["a", "a"], "an id comes twice"),
        ([[verdict("bpda", "T3", 0)]], None, "no verdict on the clean image"),
        ([[]], None, "no verdict on the clean image"),
        (
            [
                [CLEAN, verdict("bpda", "T3", 0), verdict("exact", "T4", 0)],
                [CLEAN, verdict("exact", "T4", 0), verdict("bpda", "T3", 0)],
            ],
            None,
            "another order",
        ),
        ([[CLEAN, verdict("bpda", "T3", 0), verdict("bpda", "T3", 0)]], None, "another order"),
    ],
)
def test_refuses_tables_that_are_no_cascade(rows, ids, message):
    with pytest.raises(InputError, match=message):
        cascade_scores(table(rows, ids=ids), "stl", ORDER)


def test_refuses_another_tier_than_the_attack_has():
    with pytest.raises(InputError, match="another order"):
        cascade_scores(table([[CLEAN, verdict("bpda", "T4", 0)]]), "stl", ORDER)


def test_identity_an_attack_without_survivors_has_a_step():
    scores = cascade_scores(table(CASCADE[:3]), "stl", {**ORDER, "square": ThreatTier.QUERY})
    last = scores["steps"][-1]
    assert (last["attack"], last["tier"], last["attacked"], last["held"], last["correct"]) == ("square", "T5", 0, 0, 0)
    assert scores["worst"]["correct"] == 0


@pytest.mark.parametrize(("cascade", "attacked", "held"), [(True, 2, 1), (False, 3, 1)])
def test_identity_a_further_attack_on_some_images_counts_in_the_worst_case(cascade, attacked, held):
    rows = [*CASCADE[1:], CASCADE[3], CASCADE[3]]  # three survivors
    further = {"test/0": 3, "test/2": 4, "test/3": 0}
    whole = with_further(table(rows), "more", ThreatTier.CHECKS, further, cascade)
    scores = cascade_scores(whole, "stl", {**ORDER, "more": ThreatTier.CHECKS})
    last = scores["steps"][-1]
    assert (last["attacked"], last["held"], last["correct"]) == (attacked, held, 2)
    assert scores["worst"]["correct"] == 2
    assert scores["largest_share"] == 0.99


def test_identity_a_refused_image_is_wrong_when_clean_and_held_when_attacked():
    rows = [
        [verdict("clean", "T0", 0, "clean", rejected=True)],
        [CLEAN, verdict("bpda", "T3", 2, rejected=True), verdict("exact", "T4", 0)],
        [CLEAN, verdict("bpda", "T3", 0), verdict("exact", "T4", 1)],
        [CLEAN, verdict("bpda", "T3", -1, rejected=True)],  # a solve that diverged
    ]
    scores = cascade_scores(table(rows), "magnet", ORDER)
    found = [tuple(step[name] for name in ("attacked", "held", "refused", "correct")) for step in scores["steps"]]
    assert found == [(4, 3, 1, 3), (3, 2, 2, 2), (2, 1, 0, 1)]
    assert survivors([0] * 4, rows) == [1]
