import pyarrow as pa
import pytest

from stl_ray.config import Experiment
from stl_ray.report.pairs import Held, Pair, by_block, compared, held, pairs_of
from stl_ray.rightness import NO_VERDICT
from stl_ray.statistics import paired_difference

PAIR = Pair("own", "vanilla", ("jpeg", "jpeg"), "fgsm")
CLEAN = PAIR._replace(attack="clean")


def predictions(ids: str, labels: list[int], answers: list[int], refused: str = "", **retrained) -> pa.Table:
    """Images named by letters, of which some were refused."""
    rejected = [name in refused for name in ids]
    columns = {"id": list(ids), "label": labels, "vanilla": answers, "vanilla_rejected": rejected}
    others = {"retrained": answers, "retrained_rejected": rejected}
    return pa.table({**columns, **others, **retrained})


def truth(found: Held) -> tuple[list[bool], list[bool], tuple[int, int]]:
    return found.first.tolist(), found.second.tolist(), found.left_out


def test_identity_images_are_matched_by_id_and_label_in_any_order():
    first = predictions("abcd", [0, 1, 2, 0], [0, 1, 0, 0])
    second = predictions("edcba", [0, 1, 2, 1, 0], [0, 0, 2, 0, 0])  # d has another label, e is not in the first
    assert truth(held(CLEAN, first, second)) == ([True, True, False], [True, False, True], (1, 2))


def test_identity_chunks_are_one_table():
    first = predictions("abcd", [0, 1, 2, 0], [0, 1, 0, 0])
    parts = pa.concat_tables([first.slice(2), first.slice(0, 2)])
    assert truth(held(CLEAN, parts, first)) == truth(held(CLEAN, first, first))


def test_identity_none_in_common_is_no_image():
    first, second = predictions("ab", [0, 1], [0, 1]), predictions("ac", [1, 1], [0, 1])
    assert truth(held(CLEAN, first, second)) == ([], [], (2, 2))


def test_certificate_refused_is_wrong_when_clean_and_right_when_attacked_and_a_diverged_solve_is_wrong():
    first = predictions("abc", [0, 0, 0], [0, 1, NO_VERDICT])
    second = predictions("abc", [0, 0, 0], [0, 1, NO_VERDICT], refused="abc")
    assert truth(held(CLEAN, first, second))[:2] == ([True, False, False], [False, False, False])
    assert truth(held(PAIR, first, second))[:2] == ([True, False, False], [True, True, False])


def test_identity_a_setting_has_predictions_of_its_own():
    first = predictions("ab", [0, 0], [0, 1], retrained=[1, 0])
    second = predictions("ab", [0, 0], [0, 1], retrained=[0, 0], retrained_rejected=[True, False])
    assert truth(held(CLEAN._replace(setting="retrained"), first, second))[:2] == ([False, True], [False, True])


def letters(both: int, only_first: int, only_second: int, neither: int) -> Held:
    total = both + only_first + only_second + neither
    ids = [chr(100 + n) for n in range(total)]
    one = [0] * (both + only_first) + [1] * (only_second + neither)
    other = [0] * both + [1] * only_first + [0] * only_second + [1] * neither
    tables = (predictions("".join(ids), [0] * total, answers) for answers in (one, other))
    return held(CLEAN, *tables)


def test_identity_comparisons_by_hand():
    found = compared([(CLEAN, letters(3, 1, 7, 1)), (PAIR, letters(5, 0, 5, 2))])
    # B - A: (3 + 7 - 3 - 1) / 12; of 8 images that only one has right A has 1: p = 2 (1 + 8) / 2^8.
    clean, attacked = found
    assert clean.images == 12 and clean.accuracies == (4 / 12, 10 / 12)
    assert clean.difference == paired_difference(both=3, only_first=7, only_second=1, neither=1)
    assert clean.difference.estimate == pytest.approx(6 / 12)
    assert clean.p == pytest.approx(18 / 256) and attacked.p == pytest.approx(2 / 32)
    # By Holm: the smaller one twice, the larger one not below it.
    assert attacked.p_adjusted == pytest.approx(4 / 32) and clean.p_adjusted == pytest.approx(4 / 32)
    assert [cell.apart for cell in found] == [True, True]
    assert not compared([(CLEAN, letters(3, 1, 1, 0))])[0].apart


def experiment(classifiers, defenses, sets) -> Experiment:
    sections = {
        "classifiers": [{"architecture": "small_cnn", **item} for item in classifiers],
        "defenses": [{"name": name, "defense": "jpeg"} for name in defenses],
        "attack": {"sets": [{"name": name, "attack": "fgsm", "linf": 8} for name in sets]},
    }
    return Experiment.model_validate({"name": "a", "root": "runs/a", **sections}, strict=False)


def test_identity_cells_are_those_of_either_and_no_defense_comes_once():
    own, surrogate = (
        {"name": "own", "retrain": {"defenses": ["jpeg"]}},
        {"name": "surrogate", "scored": False, "retrain": {}},
    )
    first = experiment([own, surrogate], ["jpeg", "tvm"], ["bim"])
    second = experiment([{"name": "own", "retrain": {}}], ["jpeg", "mild"], ["fgsm"])
    # `tvm` is in the first alone, which has no `fgsm` and no classifier for it; `mild` in the second, which has no `bim`.
    assert [(pair.setting, *pair.defenses, pair.attack) for pair in pairs_of(first, second)] == [
        (setting, row, row, attack)
        for setting, rows in (("vanilla", ["none", "jpeg", "tvm", "mild"]), ("retrained", ["jpeg", "mild"]))
        for row in rows
        for attack in ("clean", "bim", "fgsm")
        if (row, attack) not in (("mild", "bim"), ("tvm", "fgsm"))
    ]
    assert {pair.classifier for pair in pairs_of(first, second)} == {"own"}
    retrained = [pair.defenses[0] for pair in pairs_of(first, first) if pair.setting == "retrained"]
    assert retrained == ["jpeg", "jpeg"]


def test_identity_two_defenses_are_compared_in_every_setting_that_either_has():
    first = experiment([{"name": "own", "retrain": {}}], ["jpeg", "mild"], ["fgsm"])
    for rows in (("jpeg", "mild"), ("none", "jpeg")):
        assert pairs_of(first, first, rows) == [
            Pair("own", setting, rows, attack) for setting in ("vanilla", "retrained") for attack in ("clean", "fgsm")
        ]
    assert {pair.setting for pair in pairs_of(first, first, ("none", "none"))} == {"vanilla"}


def test_identity_blocks_are_classifiers_in_settings():
    cells = compared([(pair, letters(1, 1, 1, 1)) for pair in (CLEAN, CLEAN._replace(setting="retrained"), PAIR)])
    assert [(block, len(found)) for block, found in by_block(cells)] == [
        (("own", "vanilla"), 2), (("own", "retrained"), 1),
    ]  # fmt: skip
