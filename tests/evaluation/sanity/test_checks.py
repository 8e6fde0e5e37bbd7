"""Every check on figures that pass it, and on figures that raise it."""

import numpy as np
import pyarrow as pa
import pytest

from stl_ray.attacks import Budget
from stl_ray.errors import InputError
from stl_ray.evaluation.sanity import PROBES_SCHEMA, ProbeTable, broken_images, check_all
from stl_ray.evaluation.sanity.attacks import RETRIES

COUNT = 200
CLEAN = 180  # right when clean


def right(count: int) -> list[int]:
    """Predictions with the first `count` right; the label is 0."""
    return [0] * count + [1] * (COUNT - count)


def answers(**changes: list[int]) -> dict[str, list[int]]:
    """Predictions of a sound evaluation."""
    found = {"clean": right(CLEAN), **{f"pass {number}": right(CLEAN) for number in range(5)}, "alone": right(CLEAN)}
    found |= {
        "white-box": right(20), "single step": right(60), "noise": right(170), "transfer": right(120),
        "undefended": right(0), "BPDA": right(40), "other loss": right(20), "gradient-free": right(90),
        "steps x2": right(20), "steps x4": right(20),
    }  # fmt: skip
    found |= {f"retry {name}": right(20) for name in RETRIES}
    found |= {f"sweep {size:g}": right(count) for size, count in ((0.01, 150), (0.03, 20), (0.06, 5), (1, 0))}
    found["other cluster"] = right(30)
    return found | changes


def measures(**changes: list[float]) -> dict[str, list[float]]:
    zero, one = [0.0] * COUNT, [1.0] * COUNT
    spread = np.linspace(-4, 4, COUNT).tolist()
    found = {
        "smallest logit": [-3.0] * COUNT, "largest logit": [5.0] * COUNT, "sum of logits": [2.5] * COUNT,
        "logits alone": [1e-6] * COUNT, "in training mode": zero, "gradient is zero": zero, "gradient is not finite": zero,
        "cosine of BPDA to exact": [0.6] * COUNT, "loss rises": one,
        "finite difference error": [1e-3] * 8 + [float("nan")] * (COUNT - 8), "silent success": zero,
        "margin at steps x2": spread, "margin at steps x4": spread, "cluster flipped": zero,
        "over budget": [-1e-4] * COUNT, "under budget": [1e-3] * COUNT, "over tolerance": [0.1] * COUNT,
        "out of the box": zero,
    }  # fmt: skip
    return found | changes


def some(count: int, value: float = 1.0, other: float = 0.0) -> list[float]:
    return [value] * count + [other] * (COUNT - count)


def probes(
    found: dict[str, list[int]] | None = None,
    measured: dict[str, list[float]] | None = None,
    refused: dict[str, range] | None = None,
) -> ProbeTable:
    """The table of these answers and measures, a detector having refused some rows of some probes."""
    found, measured, refused = found or answers(), measured or measures(), refused or {}
    rows = [
        {
            "id": f"test/{row:04d}",
            "label": 0,
            "answers": [
                {"probe": name, "prediction": values[row], "rejected": row in refused.get(name, ())}
                for name, values in found.items()
            ],
            "measures": [{"name": name, "value": values[row]} for name, values in measured.items()],
        }
        for row in range(COUNT)
    ]
    return ProbeTable.of(pa.Table.from_pylist(rows, schema=PROBES_SCHEMA), "stl")


RECORD = dict.fromkeys(("attacks", "budget", "classifier", "defense", "ids_sha256", "seed", "version"), "x")


def flags(
    own: ProbeTable, *, samples=1, images=1000, late=0, ids=("a",), record=RECORD, share=0.999, store="u8"
) -> dict[str, dict]:
    scores = {"images": images, "steps": [{"out_of_time": late}], "largest_share": share}
    found = check_all(own, chance=0.1, samples=samples, scores=scores, store=store, ids=frozenset(ids), record=record)
    return {flag["check"]: flag for flag in found}


def raised(found: dict[str, dict]) -> set[str]:
    return {check for check, flag in found.items() if flag["state"] == "raised"}


def test_identity_a_sound_evaluation_raises_nothing():
    found = flags(probes())
    assert list(found) == [f"H{number}" for number in range(1, 16)]
    assert {flag["state"] for flag in found.values()} == {"passed"}
    assert all(flag["finding"] and flag["title"] for flag in found.values())


@pytest.mark.parametrize(
    ("check", "changed"),
    [
        ("H2", {"sweep 0.06": right(23)}),
        ("H3", {"sweep 0.03": right(26), "sweep 0.06": right(26), "sweep 1": right(25)}),
        ("H4", {"single step": right(17)}),
        ("H4", {"transfer": [1] * 3 + right(120)[3:]}),
        ("H4", {"BPDA": [1] * 3 + right(40)[3:]}),
        ("H4", {"noise": [1] * 3 + right(170)[3:]}),
        ("H5", {"gradient-free": right(19)}),
        ("H6", {"steps x2": right(14), "steps x4": right(11)}),
        ("H7", {"retry start 2": right(17)}),
        ("H7", {"retry twice the step": [1] * 3 + right(20)[3:]}),
        ("H10", {"pass 3": right(CLEAN - 1)}),
        ("H11", {"alone": right(CLEAN - 1)}),
        ("H12", {"undefended": right(25)}),
        ("H12", {"other cluster": right(17)}),
        ("H13", {"other loss": right(17)}),
    ],
)
def test_identity_an_answer_that_raises_one_check(check, changed):
    assert raised(flags(probes(answers(**changed)))) == {check}


@pytest.mark.parametrize(
    ("check", "changed"),
    [
        ("H1", {"over tolerance": some(1, 1.5)}),
        ("H1", {"out of the box": some(1)}),
        ("H6", {"margin at steps x4": np.linspace(-4 + 1, 4 + 1, COUNT).tolist()}),
        ("H8", {"gradient is zero": some(1)}),
        ("H8", {"gradient is not finite": some(1)}),
        ("H8", {"finite difference error": [0.05] * 8 + [float("nan")] * (COUNT - 8)}),
        ("H8", {"loss rises": some(COUNT - 11, 1, 0)}),
        ("H9", {"silent success": some(3)}),
        ("H11", {"logits alone": some(1, 0.01)}),
        ("H11", {"in training mode": some(COUNT)}),
        ("H11", {"smallest logit": [0.0] * COUNT, "largest logit": [0.9] * COUNT, "sum of logits": [1.0] * COUNT}),
    ],
)
def test_identity_a_measure_that_raises_one_check(check, changed):
    assert raised(flags(probes(measured=measures(**changed)))) == {check}


@pytest.mark.parametrize(
    ("check", "changed"),
    [
        ("H1", {"share": 1.0005}),
        ("H1", {"share": 1.002, "store": "f32"}),
        ("H14", {"images": 999}),
        ("H14", {"late": 1}),
        ("H14", {"ids": ("a", "b")}),
        ("H15", {"record": {**RECORD, "classifier": None}}),
    ],
)
def test_identity_a_record_that_raises_one_check(check, changed):
    assert raised(flags(probes(), **changed)) == {check}


def test_identity_float32_hits_its_budget_within_a_thousandth():
    assert raised(flags(probes(), share=1.0005, store="f32")) == set()
    assert raised(flags(probes(), share=None)) == set()


def test_identity_images_broken_by_the_checks_within_the_budget():
    found = {name: right(COUNT) for name in answers()}
    found |= {
        "undefended": right(0),
        "sweep 0.06": right(0),
        "sweep 1": right(0),
        "pass 1": right(0),
        "alone": right(0),
    }
    assert set(broken_images(probes(found), Budget(size=0.03)).values()) == {0}
    for row, name in enumerate(("white-box", "retry start 3", "steps x2", "sweep 0.03", "other cluster")):
        found[name] = [2 if place == row else 0 for place in range(COUNT)]
    own = broken_images(probes(found), Budget(size=0.03))
    assert [own[f"test/{row:04d}"] for row in range(6)] == [2, 2, 2, 2, 2, 0]
    assert sum(own.values()) == 10


def test_identity_one_image_in_a_hundred_is_tolerated():
    for changed in ({"single step": right(18)}, {"sweep 0.06": right(22)}, {"retry start 1": right(18)}):
        assert raised(flags(probes(answers(**changed)))) == set()


def test_identity_a_randomised_defense_needs_enough_draws():
    found = answers(**{"pass 3": right(CLEAN - 1)})
    assert raised(flags(probes(found), samples=19)) == {"H10"}
    assert raised(flags(probes(found), samples=20)) == set()


def test_identity_a_defense_without_exact_gradient_is_not_differentiated():
    measured = measures()
    del measured["finite difference error"], measured["cosine of BPDA to exact"]
    found = answers()
    del found["BPDA"], found["other cluster"]
    own = flags(probes(found, measured))
    assert raised(own) == set()
    assert "finite differences" not in own["H8"]["finding"]


def test_identity_a_check_without_its_probes_is_not_run():
    kept = {name: values for name, values in answers().items() if name.startswith(("clean", "pass", "alone"))}
    own = flags(probes(kept))
    assert {check for check, flag in own.items() if flag["state"] == "not_run"} == {
        "H2", "H3", "H4", "H5", "H6", "H7", "H12", "H13",
    }  # fmt: skip


def test_refuses_tables_that_are_no_probes():
    row = {"id": "a", "label": 0, "answers": [{"probe": "clean", "prediction": 0, "rejected": False}], "measures": []}
    other = {**row, "id": "b", "answers": []}
    for rows, message in (([], "no probes"), ([row, row], "twice"), ([row, other], "different ways")):
        with pytest.raises(InputError, match=message):
            ProbeTable.of(pa.Table.from_pylist(rows, schema=PROBES_SCHEMA), "stl")


def test_identity_a_refused_image_is_right_when_attacked_and_wrong_when_clean():
    own = probes(refused={"white-box": range(COUNT), "clean": range(10)})
    assert own.correct("white-box").all()
    assert own.correct("clean").sum() == CLEAN - 10
    # A refusal is an answer: passes that differ in it are random, and so is a batch that changes it.
    assert raised(flags(probes(refused={"pass 1": range(1)}))) == {"H10"}
    assert raised(flags(probes(refused={"alone": range(1)}))) == {"H11"}


def test_identity_only_what_was_not_refused_is_broken():
    refused = {name: range(20, COUNT) for name in answers() if name not in ("clean", "alone")}
    found = broken_images(probes(refused=refused), Budget(kind="linf", size=8 / 255))
    assert {name for name, prediction in found.items() if prediction != 0} == set()
