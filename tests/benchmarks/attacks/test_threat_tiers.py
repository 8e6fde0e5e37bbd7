"""The benchmark of the threat tiers: its experiment is one that the jobs take, and its page adds up."""

import argparse
from pathlib import Path

import pytest

from benchmarks.attacks import threat_tiers
from stl_ray.pipeline.preflight import preflight
from stl_ray.report.records import TierScores
from stl_ray.statistics import wilson
from stl_ray.threats import KNOWLEDGE


@pytest.mark.parametrize("store", threat_tiers.ROWS)
def test_identity_the_experiment_has_every_tier(store, tmp_path):
    pytest.importorskip("foolbox")
    options = argparse.Namespace(data=Path("data"), images=8, sanity="full")
    experiment = threat_tiers._experiment(tmp_path, store, options)
    preflight(experiment)
    tiers = {item.tier for item in experiment.evaluate.tiers.attacks}
    assert tiers | {"T0", "T1a", "checks"} == set(KNOWLEDGE)
    assert experiment.evaluate.tiers.budget.store == experiment.attack.sets[0].store == store


def test_identity_what_the_attacks_take_adds_up():
    counts = [("clean", "T0", 8), ("grey-apgd", "T1b", 6), ("bpda-pgd", "T3", 3), ("exact-pgd", "T4", 1)]
    steps = [
        {
            "attack": attack,
            "tier": tier,
            "attacked": 10,
            "held": count,
            "refused": 0,
            "out_of_time": 0,
            "correct": count,
        }
        | dict(zip(("accuracy", "low", "high"), wilson(count, 10), strict=True))
        for attack, tier, count in counts
    ]
    worst = {"correct": 1, "total": 10} | {name: steps[-1][name] for name in ("accuracy", "low", "high")}
    row = {
        "defense": "stl", "gradient": "exact", "images": 10, "steps": steps, "worst": worst, "complete": True, "flags": [],
    }  # fmt: skip
    scores = TierScores.model_validate(
        {
            "budget": {"kind": "dissimilarity", "size": 0.015, "space": "pixel", "store": "u8"},
            "retrained": [], "cascade": True, "sanity": "full", "rows": [row], "grey_box": ["T1a", "T1b"],
            "knowledge": {str(tier): line for tier, line in KNOWLEDGE.items()},
        },
        strict=False,
    )  # fmt: skip
    page = threat_tiers._page({"u8": scores}, "a command", 1.0)
    assert (
        "- STL: 8 of 10 right when clean, of which fall 2 to grey-apgd (T1b), 3 to bpda-pgd (T3), 2 to exact-pgd (T4);"
        in page
    )
    assert (
        "6 after the attackers who do not have it (T1, T2); 3 after one who differentiates past it (T3), and 1 " in page
    )
    assert page.startswith("# ") and "| STL | 0.800" in page
