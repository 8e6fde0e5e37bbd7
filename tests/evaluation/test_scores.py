import hashlib

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from stl_ray.config import AttackedConfig
from stl_ray.errors import InputError
from stl_ray.evaluation import PREDICTIONS_SCHEMA, score
from stl_ray.rightness import NO_VERDICT, right
from stl_ray.statistics import paired_difference, wilson

CLASSES = ["a", "b", "c"]


def predictions(vanilla, *, retrained=None, psnr=None, cluster=None, status=None, **changes) -> pa.Table:
    """Six images of classes a a b b c c; the defaults are those of the row without a defense."""
    columns = {
        "id": [f"test/{index}" for index in range(6)],
        "label": [0, 0, 1, 1, 2, 2],
        "vanilla": vanilla,
        "retrained": vanilla if retrained is None else retrained,
        "vanilla_float": vanilla,
        "retrained_float": vanilla if retrained is None else retrained,
        **{f"{setting}_confidence": [0.9] * 6 for setting in ("vanilla", "retrained")},
        **{f"{setting}_rejected": [False] * 6 for setting in ("vanilla", "retrained")},
        **{f"{setting}_score": [0.0] * 6 for setting in ("vanilla", "retrained")},
        "psnr": [float("inf")] * 6 if psnr is None else psnr,
        "cluster": [-1] * 6 if cluster is None else cluster,
        "status": ["applied"] * 6 if status is None else status,
        **changes,
    }
    return pa.Table.from_pydict(columns, schema=PREDICTIONS_SCHEMA)


@pytest.fixture
def tables() -> dict[tuple[str, str], pa.Table]:
    return {
        ("none", "clean"): predictions([0, 0, 1, 1, 2, 0]),
        ("none", "fgsm"): predictions([0, 1, 2, 2, 2, 0], psnr=[30.0] * 6),
        ("stl", "clean"): predictions([0, 0, 1, 2, 2, 0], psnr=[20.0, 40.0] * 3, cluster=[0, 0, 1, 1, 0, 0]),
        ("stl", "fgsm"): predictions(
            [0, 0, 1, 2, 1, 0],
            retrained=[0, 0, 1, 1, 2, 0],
            psnr=[25.0] * 5 + [float("inf")],
            cluster=[0, 1, 1, 1, 0, 1],
            status=["max_iterations", *["converged"] * 4, "diverged"],
            vanilla_float=[0, 1, 1, 1, 1, 0],
        ),
    }


def scored(tables, retrained=("stl",), **arguments) -> dict:
    return score(
        tables, classifier="mine", architecture="small_cnn", class_names=CLASSES, retrained=retrained, **arguments
    )


def cell(scores, setting, defense, attack) -> dict:
    (found,) = (c for c in scores["cells"] if (c["setting"], c["defense"], c["attack"]) == (setting, defense, attack))
    return found


def test_identity_scores_by_hand(tables):
    scores = scored(tables)
    ids = "\n".join(f"test/{index}" for index in range(6))
    head = {key: value for key, value in scores.items() if key != "cells"}
    assert head == {
        "format": "scores",
        "version": 3,
        "images": 6,
        "set_aside": 0,
        "ids_sha256": hashlib.sha256(ids.encode()).hexdigest(),
        "classifier": "mine",
        "architecture": "small_cnn",
        "class_names": CLASSES,
        "chance": 1 / 3,
    }
    assert [(c["setting"], c["defense"], c["attack"]) for c in scores["cells"]] == [
        (setting, *names) for setting in ("vanilla", "retrained") for names in tables
    ]
    interval = wilson(3, 6)
    versus = paired_difference(both=1, only_first=2, only_second=1, neither=2)
    subgroups = ("initially_right", "by_cluster")  # below
    assert {name: one for name, one in cell(scores, "vanilla", "stl", "fgsm").items() if name not in subgroups} == {
        "setting": "vanilla",
        "defense": "stl",
        "attack": "fgsm",
        "threat": "T1a",
        "correct": 3,
        "total": 6,
        "accuracy": 0.5,
        "low": interval.low,
        "high": interval.high,
        "float_disagreements": 2,
        "psnr": 25.0,
        "cluster_changed": pytest.approx(2 / 6),
        "statuses": {"converged": 4, "diverged": 1, "max_iterations": 1},
        "detection": None,
        "versus_none": {
            "gained": 2,
            "lost": 1,
            "difference": versus.estimate,
            "low": versus.low,
            "high": versus.high,
            "p": pytest.approx(binomtest(2, 3).pvalue),
            "p_adjusted": 1.0,
        },
    }


def test_identity_retrained_is_scored_on_its_own_predictions(tables):
    scores = scored(tables)
    retrained = cell(scores, "retrained", "stl", "fgsm")
    assert (retrained["correct"], retrained["float_disagreements"]) == (5, 0)
    assert retrained["versus_none"]["difference"] == pytest.approx((5 - 2) / 6)
    assert cell(scores, "retrained", "none", "fgsm")["correct"] == cell(scores, "vanilla", "none", "fgsm")["correct"]
    only = scored(tables, retrained=())
    assert {c["setting"] for c in only["cells"]} == {"vanilla"}


def test_identity_p_values_are_adjusted_over_the_comparisons_of_a_setting():
    label = [n % 3 for n in range(12)]
    wrong = [(n + 1) % 3 for n in range(12)]

    def right_on(count: int) -> pa.Table:
        column = label[:count] + wrong[count:]
        plain = {name: [value] * 12 for name, value in (("cluster", -1), ("psnr", np.inf), ("status", "applied"))}
        both = ("vanilla", "retrained")
        plain |= {f"{setting}_{kind}": [0.0] * 12 for setting in both for kind in ("score", "confidence")}
        plain |= {f"{setting}_rejected": [False] * 12 for setting in ("vanilla", "retrained")}
        answers = {f"{setting}{end}": column for setting in ("vanilla", "retrained") for end in ("", "_float")}
        columns = {"id": [f"{n:02d}" for n in range(12)], "label": label, **plain, **answers}
        return pa.Table.from_pydict(columns, schema=PREDICTIONS_SCHEMA)

    counts = {"none": (12, 2), "jpeg": (6, 12), "stl": (12, 9)}
    scores = scored(
        {
            (name, attack): right_on(n)
            for name, pair in counts.items()
            for attack, n in zip(("clean", "bim"), pair, strict=True)
        },
        retrained=["stl"],
    )
    p = {6: 2 / 2**6, 10: 2 / 2**10, 0: 1.0, 7: 2 / 2**7}  # images that only one of the two has right
    expected = {
        ("vanilla", "jpeg", "bim"): p[10] * 4, ("vanilla", "stl", "bim"): p[7] * 3, ("vanilla", "jpeg", "clean"): p[6] * 2,
        ("vanilla", "stl", "clean"): 1.0, ("retrained", "stl", "bim"): p[7] * 2, ("retrained", "stl", "clean"): 1.0,
    }  # fmt: skip
    found = {
        (c["setting"], c["defense"], c["attack"]): c["versus_none"]["p_adjusted"]
        for c in scores["cells"]
        if c["versus_none"]
    }
    assert found == {key: pytest.approx(value, rel=1e-12) for key, value in expected.items()}


def test_identity_only_the_defenses_that_it_was_retrained_for_are_in_that_setting(tables):
    jpeg = {("jpeg", attack): table for (defense, attack), table in tables.items() if defense == "stl"}
    scores = scored({**tables, **jpeg}, retrained=["jpeg"])
    retrained = [(c["defense"], c["attack"]) for c in scores["cells"] if c["setting"] == "retrained"]
    assert retrained == [("none", "clean"), ("none", "fgsm"), ("jpeg", "clean"), ("jpeg", "fgsm")]
    assert sum(c["setting"] == "vanilla" for c in scores["cells"]) == 6


def test_identity_the_tier_of_a_set_depends_on_whose_victim_it_is(tables):
    def tiers(setting: str = "vanilla", **victim) -> list[str]:
        scores = scored(tables, retrained=["stl"], crafted={"fgsm": AttackedConfig(**victim)})
        return [cell(scores, setting, defense, "fgsm")["threat"] for defense in ("none", "stl")]

    assert tiers() == tiers(classifier="mine") == tiers(classifier="surrogate") == ["T1a", "T1a"]
    assert tiers(classifier="mine", defense="stl") == ["T2", "T4"]
    assert tiers(classifier="surrogate", defense="stl") == ["T2", "T2"]
    assert tiers(classifier="mine", retrained_for="stl") == ["T1a", "T1a"]
    assert tiers("retrained", classifier="mine", retrained_for="stl") == ["T1a", "T1b"]
    assert tiers("retrained", classifier="mine", retrained_for="stl", defense="stl") == ["T2", "T4"]
    assert tiers(classifier="surrogate", retrained_for="stl") == ["T1a", "T1a"]


def test_identity_what_does_not_apply_is_none(tables):
    scores = scored(tables)
    undefended = cell(scores, "vanilla", "none", "clean")
    assert (undefended["threat"], undefended["psnr"], undefended["cluster_changed"], undefended["versus_none"]) == (
        "T0", None, None, None,
    )  # fmt: skip
    assert cell(scores, "vanilla", "stl", "clean")["psnr"] == 30.0
    assert cell(scores, "vanilla", "stl", "clean")["cluster_changed"] == 0


def test_invariant_order_of_rows_and_chunks(tables):
    expected = scored(tables)
    shuffled = {}
    for seed, (names, table) in enumerate(tables.items()):
        order = np.random.default_rng(seed).permutation(6)
        shuffled[names] = pa.concat_tables([table.take(order[:2]), table.take(order[2:])])
    assert scored(shuffled) == expected


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (predictions([0] * 6, id=[f"train/{index}" for index in range(6)]), "different images"),
        (predictions([0] * 6, label=[0, 0, 1, 1, 2, 1]), "label of an image differs"),
        (predictions([0] * 6, id=[f"test/{index}" for index in (0, 1, 2, 3, 4, 4)]), "twice"),
        (predictions([0, 0, 0, 0, 0, 3]), "no such class"),
        (predictions([0] * 6, label=[0, 0, 1, 1, 2, -1]), "no such class"),
        (predictions([0] * 6, retrained=[0, 0, 0, 0, 0, None]), "missing"),
        (predictions([0] * 6, status=[*["applied"] * 5, None]), "missing"),
        (predictions([0] * 6).slice(0, 0), "not a table"),
        (predictions([0] * 6).drop_columns(["psnr"]), "not a table"),
    ],
)
def test_refuses_tables_that_do_not_fit(tables, replacement, message):
    with pytest.raises(InputError, match=message) as caught:
        scored({**tables, ("stl", "fgsm"): replacement})
    assert "stl/fgsm" in str(caught.value)


def test_identity_an_image_that_one_table_lacks_is_in_no_row(tables):
    fewer = {
        **tables,
        ("stl", "fgsm"): tables["stl", "fgsm"].slice(1, 4),
        ("none", "fgsm"): tables["none", "fgsm"].slice(2),
    }
    scores = scored(fewer)
    same = scored({cell: table.slice(2, 3) for cell, table in tables.items()})
    assert (scores.pop("images"), scores.pop("set_aside")) == (3, 3)
    assert (same.pop("images"), same.pop("set_aside")) == (3, 0)
    assert scores == same


@pytest.mark.parametrize("missing", [("none", "fgsm"), ("stl", "clean")])
def test_refuses_to_score_without_the_row_for_comparison(tables, missing):
    del tables[missing]
    with pytest.raises(InputError, match="nothing to compare"):
        scored(tables)


def test_refuses_no_tables():
    with pytest.raises(InputError, match="no predictions"):
        scored({})


@pytest.fixture
def detected() -> dict[tuple[str, str], pa.Table]:
    """The classes of a defense whose detector refuses the last clean image, and of the attacked ones the middle two."""
    undefended = [0, 0, 1, 1, 2, 2]
    return {
        ("none", "clean"): predictions(undefended),
        ("none", "fgsm"): predictions([0, 1, 2, 0, 0, 0]),
        ("magnet", "clean"): predictions(
            [0, 0, 1, 1, 2, 2],
            vanilla_rejected=[*[False] * 5, True],
            vanilla_score=[0.1, 0.2, 0.3, 0.4, 0.5, 1.5],
        ),
        ("magnet", "fgsm"): predictions(
            [0, 1, 2, NO_VERDICT, 2, 0],
            vanilla_rejected=[False, False, True, True, False, False],
            vanilla_score=[0.05, 0.2, 2.0, 3.0, 0.6, 0.9],
        ),
    }


def test_identity_a_refused_image_is_wrong_when_clean_and_right_when_attacked(detected):
    scores = scored(detected, retrained=(), detecting=["magnet"])
    clean, attacked = (cell(scores, "vanilla", "magnet", attack) for attack in ("clean", "fgsm"))
    assert clean["correct"] == 5  # all six classes are right; one was refused
    # Of the two refused ones the solve of the second diverged, which stays wrong.
    assert attacked["correct"] == 3
    assert attacked["versus_none"]["difference"] == pytest.approx((3 - 1) / 6)


def test_identity_figures_of_a_detector_by_hand(detected):
    scores = scored(detected, retrained=(), detecting=["magnet"])
    clean, attacked = (cell(scores, "vanilla", "magnet", attack)["detection"] for attack in ("clean", "fgsm"))

    def share(count: int, total: int) -> dict:
        return {
            "count": count,
            "total": total,
            **dict(zip(("share", "low", "high"), wilson(count, total), strict=True)),
        }

    assert clean == {"refused": share(1, 6), "accepted": share(5, 5), "auroc": None, "roc": None}
    assert (attacked["refused"], attacked["accepted"]) == (share(2, 6), share(2, 4))
    area = roc_auc_score([0] * 6 + [1] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 1.5, 0.05, 0.2, 2.0, 3.0, 0.6, 0.9])
    assert attacked["auroc"]["estimate"] == pytest.approx(area)
    assert 0 <= attacked["auroc"]["low"] < area < attacked["auroc"]["high"] <= 1


def test_identity_a_detector_that_refuses_everything_leaves_no_accuracy(detected):
    everything = predictions([0] * 6, vanilla_rejected=[True] * 6, vanilla_score=[2.0] * 6)
    scores = scored({**detected, ("magnet", "fgsm"): everything}, retrained=(), detecting=["magnet"])
    attacked = cell(scores, "vanilla", "magnet", "fgsm")
    assert attacked["detection"]["accepted"] is None
    assert attacked["correct"] == 6


def test_identity_only_a_defense_with_a_detector_has_its_figures(detected):
    scores = scored(detected, retrained=(), detecting=["magnet"])
    assert {cell["defense"] for cell in scores["cells"] if cell["detection"] is not None} == {"magnet"}


@pytest.mark.parametrize("attacked", [False, True])
def test_identity_of_what_is_right(attacked):
    prediction, rejected = [0, 1, NO_VERDICT, 0, 1, NO_VERDICT], [False] * 3 + [True] * 3
    found = right(prediction, [0] * 6, rejected, attacked=attacked)
    assert found.tolist() == [True, False, False, attacked, attacked, False]


def test_identity_images_that_are_right_to_begin_with_and_of_each_cluster_by_itself(tables):
    scores = scored(tables)
    # Right when clean without a defense: all but the last.
    assert counted(cell(scores, "vanilla", "none", "clean")["initially_right"]) == (5, 5)
    assert counted(cell(scores, "vanilla", "stl", "fgsm")["initially_right"]) == (3, 5)
    assert counted(cell(scores, "retrained", "stl", "fgsm")["initially_right"]) == (5, 5)
    assert cell(scores, "vanilla", "none", "fgsm")["by_cluster"] is None
    # Where each is routed when clean, not under attack: images 0, 1, 4, 5 and 2, 3.
    found = cell(scores, "vanilla", "stl", "fgsm")["by_cluster"]
    assert [(one["cluster"], counted(one["defended"]), counted(one["undefended"])) for one in found] == [
        (0, (2, 4), (2, 4)),
        (1, (1, 2), (0, 2)),
    ]


def test_identity_images_saved_and_broken_are_counted_on_the_same_images(tables):
    scores = scored(tables)
    versus = {name: cell(scores, "vanilla", "stl", name)["versus_none"] for name in ("clean", "fgsm")}
    assert {name: (pair["gained"], pair["lost"]) for name, pair in versus.items()} == {"clean": (0, 1), "fgsm": (2, 1)}


def counted(share) -> tuple[int, int]:
    assert (share["share"], share["low"], share["high"]) == pytest.approx(wilson(share["count"], share["total"]))
    return share["count"], share["total"]
