import json
from pathlib import Path

import pytest

from stl_ray import __version__
from stl_ray.config import ReportConfig
from stl_ray.report import build_report
from stl_ray.report.inputs import ScoredClassifier, read_inputs
from stl_ray.report.records import Method, TierScores
from stl_ray.report.robustbench import entries_of
from stl_ray.statistics import wilson

# The keys of its files in model_info/cifar10/Linf, in their order.
ROBUSTBENCH = [
    "link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture", "eps",
    "clean_acc", "reported", "autoattack_acc", "external", "footnote", "unreliable",
]  # fmt: skip
LINF = {"kind": "linf", "size": 8 / 255, "space": "pixel", "store": "u8"}


def step(attack: str, tier: str, attacked: int, correct: int, out_of_time: int = 0) -> dict:
    estimate, low, high = wilson(correct, 1000)
    return {
        "attack": attack, "tier": tier, "attacked": attacked, "held": attacked, "refused": 0, "out_of_time": out_of_time,
        "correct": correct, "accuracy": estimate, "low": low, "high": high,
    }  # fmt: skip


def tier_scores(
    steps: list[dict], budget: dict = LINF, raised: tuple[str, ...] | None = (), gradient: str = "exact"
) -> TierScores:
    flags = [
        {"check": check, "title": "", "state": "raised" if check in raised else "passed", "finding": ""}
        for check in ("H1", "H4")
    ] if raised is not None else []  # fmt: skip
    worst = {"total": 1000, **{name: steps[-1][name] for name in ("correct", "accuracy", "low", "high")}}
    complete = not any(one["out_of_time"] for one in steps)
    row = {"defense": "stl", "gradient": gradient, "images": 1000, "steps": steps, "worst": worst, "complete": complete}
    rows = [row | {"flags": flags}]
    return TierScores.model_validate(
        {
            "budget": budget,
            "retrained": ["stl"],
            "cascade": True,
            "sanity": "quick",
            "knowledge": {tier: tier for tier in ("T0", "T1b", "T3", "T4", "T5")},
            "grey_box": [],
            "rows": rows,
        }
    )


STEPS = [
    step("clean", "T0", 1000, 905),
    step("fast", "T3", 905, 400),
    step("aa", "T4", 400, 301),
    step("square", "T5", 301, 287),
]


@pytest.fixture
def entry(finished):
    """Makes the entry of a row from its tiers and the options of its AutoAttack."""
    inputs = read_inputs(str(finished))
    scores = inputs.blocks[0].scores

    def make(tiers: TierScores, **method) -> dict:
        aa = Method.model_validate({"name": "aa", "attack": "autoattack", "engine": "native", "options": {}} | method)
        block = ScoredClassifier("net", scores.model_copy(update={"tiers": tiers}), None, {"stl": (aa,)})
        (found,) = entries_of(inputs, block)
        return found

    return make


def test_identity_an_entry_has_robustbench_s_keys_and_invents_nothing(entry):
    found = entry(tier_scores(STEPS))
    assert list(found)[: len(ROBUSTBENCH)] == ROBUSTBENCH
    assert [found[key] for key in ROBUSTBENCH] == [
        None, "net behind stl", None, None, None, None, None, "small_cnn", "8/255", "90.50", None, "30.10", "28.70",
        found["footnote"], False,
    ]  # fmt: skip
    assert found["source"] == f"stl-ray {__version__}" and found["threat_model"] == "Linf" and found["images"] == 1000
    low, high = wilson(287, 1000)[1:]
    assert found["external_interval"] == [f"{100 * low:.2f}", f"{100 * high:.2f}"]
    assert [attack["name"] for attack in found["attacks"]] == ["fast", "aa", "square"]
    assert found["attacks"][1]["method"] == {"attack": "autoattack", "engine": "native", "options": {}}
    assert found["attacks"][0]["method"] is None and found["retrained"] and found["complete"]
    assert "L_inf 8/255" in found["footnote"] and "up to aa, the attacks before it counted too" in found["footnote"]


@pytest.mark.parametrize(
    "method",
    [
        {"attack": "pgd"},
        {"engine": "foolbox"},
        {"options": {"steps": 5}},
        {"options": {"version": "rand"}},
        {"name": "another"},
    ],
)
def test_refuses_to_call_another_attack_autoattack(entry, method):
    found = entry(tier_scores(STEPS), **method)
    assert found["autoattack_acc"] is None and found["external"] == "28.70" and "autoattack" not in found["footnote"]


@pytest.mark.parametrize(
    "tiers",
    [
        tier_scores([STEPS[0], step("aa", "T1b", 905, 301)]),
        tier_scores([STEPS[0], step("aa", "T4", 905, 301)], gradient="stand_in"),
        tier_scores([STEPS[0], step("aa", "T4", 900, 301, out_of_time=5)]),
        tier_scores([STEPS[0], step("fast", "T4", 905, 0), step("aa", "T4", 0, 0)]),
    ],
    ids=["of the classifier alone", "by a stand-in", "not in time", "on nothing"],
)
def test_refuses_to_call_it_autoattack_where_it_was_not_tried_on_the_defense(entry, tiers):
    assert entry(tiers)["autoattack_acc"] is None


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"kind": "l2", "size": 0.5, "space": "pixel", "store": "f32"}, ("L2", "0.5")),
        ({"kind": "l2", "size": 0.5, "space": "standardized", "store": "u8"}, (None, None)),
        ({"kind": "dissimilarity", "size": 0.03, "space": "pixel", "store": "u8"}, (None, None)),
        ({"kind": "linf", "size": 0.01, "space": "pixel", "store": "f32"}, ("Linf", "2.55/255")),
    ],
)
def test_identity_a_threat_model_is_named_where_robustbench_has_it(entry, budget, expected):
    found = entry(tier_scores(STEPS, budget))
    assert (found["threat_model"], found["eps"]) == expected and found["budget"] == budget


def test_certificate_what_the_checks_void_is_unreliable(entry):
    found = entry(tier_scores(STEPS, raised=("H4",)))
    assert found["unreliable"] is True and found["flags_raised"] == ["H4"] and "Void" in found["footnote"]
    found = entry(tier_scores(STEPS, raised=None))
    assert found["unreliable"] is None and "not checked" in found["footnote"]
    late = [*STEPS[:3], step("square", "T5", 200, 290, out_of_time=101)]
    found = entry(tier_scores(late))
    assert not found["complete"] and "upper bound" in found["footnote"]


def test_roundtrip_the_file_lies_beside_the_page_with_methods_that_are_on_record(experiment_root, tmp_path):
    path = experiment_root / "evaluate" / "vanilla" / "scores.json"
    scores = json.loads(path.read_text()) | {"tiers": tier_scores(STEPS).model_dump(mode="json")}
    path.write_text(json.dumps(scores))
    method = {"name": "aa", "tier": "T4", "attack": "autoattack", "engine": "native", "options": {}}
    run = experiment_root / "evaluate" / "vanilla" / "stl-under-attack" / "run.json"
    run.parent.mkdir()
    run.write_text(
        json.dumps({"version": 2, "identity": {"stage": "evaluate", "attacks": [method]}, "environment": {}})
    )
    experiment = json.loads((experiment_root / "experiment.json").read_text())
    experiment["ingest"]["test"] = {"format": "cifar10", "path": "data/cifar"}
    (experiment_root / "experiment.json").write_text(json.dumps(experiment))
    page = build_report(str(experiment_root), str(tmp_path / "report"), ReportConfig())
    (found,) = json.loads((Path(page.html).parent / "robustbench" / "vanilla.json").read_text())
    assert (found["dataset"], found["autoattack_acc"], found["name"]) == ("cifar10", "30.10", "vanilla behind stl")


def test_invariant_without_tiers_there_is_no_file(finished, tmp_path):
    build_report(str(finished), str(tmp_path), ReportConfig())
    assert not (tmp_path / "robustbench").exists()
