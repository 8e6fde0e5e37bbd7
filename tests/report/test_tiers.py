import pytest

from stl_ray.report.blocks import Table, Text
from stl_ray.report.records import TierRow, TierScores
from stl_ray.report.tiers import budget_text, tier_blocks
from stl_ray.statistics import wilson

TOTAL = 1000


def step(attack: str, tier: str, attacked: int, held: int, correct: int, out_of_time: int = 0) -> dict:
    estimate, low, high = wilson(correct, TOTAL)
    return {
        "attack": attack, "tier": tier, "attacked": attacked, "held": held, "refused": 0, "out_of_time": out_of_time,
        "correct": correct, "accuracy": estimate, "low": low, "high": high, "statuses": {},
    }  # fmt: skip


def row(defense: str, steps: list[dict], raised: tuple[str, ...] | None, gradient: str = "exact") -> dict:
    last = steps[-1]
    flags = [
        {"check": f"H{n}", "title": f"title {n}", "state": "raised" if f"H{n}" in (raised or ()) else "passed",
         "finding": f"finding {n} of {defense}", "value": 0.0, "limit": 1.0}
        for n in (range(1, 16) if raised is not None else ())
    ]  # fmt: skip
    return {
        "defense": defense, "gradient": gradient, "images": TOTAL, "steps": steps, "flags": flags,
        "complete": not any(one["out_of_time"] for one in steps),
        "worst": {"total": TOTAL, **{name: last[name] for name in ("correct", "accuracy", "low", "high")}},
    }  # fmt: skip


@pytest.fixture
def tiers() -> TierScores:
    return scores()


@pytest.fixture
def late() -> TierScores:
    """Ten images were left when the time of an attack on STL, and of one without a defense, was up."""
    return scores(out_of_time=10)


def scores(out_of_time: int = 0, retrained: tuple[str, ...] = ("jpeg", "stl")) -> TierScores:
    clean = step("clean", "T0", TOTAL, 900, 900)
    return TierScores.model_validate(
        {
            "budget": {"kind": "dissimilarity", "size": 0.03, "space": "pixel", "store": "u8"},
            "retrained": retrained,
            "cascade": True,
            "sanity": "quick",
            "knowledge": {"T0": "clean", "T1b": "grey", "T3": "bpda", "T4": "white"},
            "grey_box": ["T1a", "T1b"],
            "rows": [
                row("none", [clean, step("exact-pgd", "T4", 900 - out_of_time, 0, out_of_time, out_of_time)], None),
                row("jpeg", [clean, step("bpda-pgd", "T3", 900, 200, 200)], ("H4", "H8")),
                row(
                    "stl",
                    [
                        clean,
                        step("grey-pgd", "T1b", 900, 700, 700),
                        step("bpda-pgd", "T3", 700, 100, 100),
                        step("exact-pgd", "T4", 100 - out_of_time, 20, 20 + out_of_time, out_of_time),
                    ],
                    (),
                ),
            ],
        }
    )


def tables(tiers) -> dict[str, Table]:
    return {block.caption.partition(":")[0]: block for block in tier_blocks(tiers) if isinstance(block, Table)}


def test_identity_the_worst_case_adds_up_and_carries_the_flags(tiers):
    first = next(block for block in tier_blocks(tiers) if isinstance(block, Table))
    assert first.columns == ("Defense", "Clean", "+ T1b", "+ T3", "+ T4", "Worst case", "Flags")
    cells = {cells[0].text: [cell.text for cell in cells[1:]] for cells in first.rows}
    assert cells["STL"] == ["0.900", "0.700", "0.100", "0.020", "0.020", "none"]
    assert cells["JPEG"] == ["0.900", "–", "0.200", "–", "0.200", "H4, H8"]  # noqa: RUF001
    assert cells["No defense"][-1] == "–"  # noqa: RUF001
    strong = {cells[0].text: cells[-2].strong for cells in first.rows}
    assert strong == {"No defense": False, "JPEG": False, "STL": True}
    assert "dissimilarity 0.03, stored as 8-bit images" in first.caption


@pytest.mark.parametrize(
    ("retrained", "said"),
    [
        (("jpeg", "stl"), "(retrained classifiers, dissim"),
        ((), "(vanilla classifier, dissim"),
        (("stl",), "(classifiers retrained for STL, vanilla classifier elsewhere, dissim"),
    ],
)
def test_identity_the_caption_says_what_stands_behind_which_defense(retrained, said):
    first = next(block for block in tier_blocks(scores(retrained=retrained)) if isinstance(block, Table))
    assert said in first.caption


def test_identity_one_table_for_each_tier_with_an_attack(tiers):
    found = tables(tiers)
    assert [name for name in found if name in tiers.knowledge] == ["T1b", "T3", "T4"]
    assert "no claim of robustness" in found["T1b"].footnote
    assert "no claim of robustness" not in found["T4"].footnote
    cells = {cells[0].text: cells[1] for cells in found["T4"].rows}
    assert cells["STL"].text == "20 of 100"
    assert cells["JPEG"].text == "–"  # noqa: RUF001


def test_identity_a_white_box_row_by_a_stand_in_s_gradient_says_so(tiers):
    steps = [step("clean", "T0", TOTAL, 900, 900), step("bpda-pgd", "T3", 900, 200, 200), step("pgd", "T4", 200, 0, 0)]
    jpeg = TierRow.model_validate(row("jpeg", steps, (), "stand_in"))
    found = tables(tiers.model_copy(update={"rows": (*tiers.rows, jpeg)}))
    notes = {tier: [cells[0].note for cells in found[tier].rows] for tier in ("T3", "T4")}
    assert notes == {"T3": ["", "", "", ""], "T4": ["", "", "", "by a stand-in's gradient"]}


def test_identity_a_raised_flag_voids_the_claim_in_words(tiers):
    sentences = [block.text for block in tier_blocks(tiers) if isinstance(block, Text)]
    assert len(sentences) == 2
    assert "void: H4, H8 raised" in sentences[0]
    assert "no flag is raised" in sentences[1]


def test_certificate_a_row_with_attacks_out_of_time_is_an_upper_bound_and_says_so(tiers, late):
    first = next(block for block in tier_blocks(late) if isinstance(block, Table))
    worst = {cells[0].text: cells[-2] for cells in first.rows}
    assert {name: cell.text for name, cell in worst.items()} == {
        "No defense": "at most 0.010",
        "JPEG": "0.200",
        "STL": "at most 0.030",
    }
    assert not worst["STL"].strong and "upper bound" in first.footnote
    jpeg, stl = (block.text for block in tier_blocks(late) if isinstance(block, Text))
    assert "STL: at most 0.030 [" in stl and "incomplete" in stl and "exact-pgd on 10 images; no flag" in stl
    assert "at most" not in jpeg and "incomplete" not in jpeg
    cells = {cells[0].text: cells[1] for cells in tables(late)["T4"].rows}
    assert cells["STL"].text == "20 of 90" and "10 not in time" in cells["STL"].note
    complete = [block.footnote for block in tier_blocks(tiers) if isinstance(block, Table)]
    assert not any("upper bound" in footnote for footnote in complete)


def test_identity_every_check_is_shown_with_what_it_found(tiers):
    found = tables(tiers)
    checks = found["The sanity checks (quick)"]
    assert [cells[0].text for cells in checks.rows] == [f"H{n}" for n in range(1, 16)]
    assert [cell.text for cell in checks.rows[3]] == ["H4", "raised", "passed"]
    assert [cell.strong for cell in checks.rows[3]] == [False, True, False]
    assert len(found["What the checks found"].rows) == 30


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ({"kind": "linf", "size": 8 / 255, "space": "pixel", "store": "u8"}, "L_inf 8/255, stored as 8-bit images"),
        ({"kind": "l2", "size": 0.5, "space": "pixel", "store": "f32"}, "L2 0.5, stored as float32"),
        (
            {"kind": "dissimilarity", "size": 0.06, "space": "standardized", "store": "f32"},
            "dissimilarity 0.06 in standardized space, stored as float32",
        ),
    ],
)
def test_identity_budgets_in_words(tiers, budget, text):
    assert budget_text(tiers.model_copy(update={"budget": type(tiers.budget).model_validate(budget)})) == text
