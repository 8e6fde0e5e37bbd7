"""The defenses beside the paper: experiments that the jobs take, gains that add up, a page of what is done."""

from pathlib import Path

import pytest

from benchmarks.defenses.faithfulness.experiments import fit_experiment, fit_root, needs_fit, scored_experiment
from benchmarks.defenses.faithfulness.page import report
from benchmarks.defenses.faithfulness.paper import BPDA, COLUMNS, NO_DEFENSE, TABLES
from benchmarks.defenses.faithfulness.parts import ATTACKS, PARTS
from benchmarks.defenses.faithfulness.ranks import correlation, ours, papers
from benchmarks.defenses.faithfulness.rows import ROWS
from benchmarks.defenses.faithfulness.scores import Done
from stl_ray.pipeline.preflight import preflight
from stl_ray.report.records import Scores
from stl_ray.statistics import paired_difference, wilson

SETS = ("clean", *(item["name"] for item in ATTACKS))


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, part in PARTS.items() for name in part.rows])
def test_identity_every_row_is_an_experiment_that_the_jobs_take(key, name, tmp_path):
    part, data = PARTS[key], Path("data")
    if ROWS[name].options.get("search") == "faiss" or "quilting" in ROWS[name].members:
        pytest.importorskip("faiss")
    fits = [
        fit_experiment(part, item, tmp_path, data)
        for item in (*ROWS[name].members, name)
        if item != "none" and needs_fit(part, item)
    ]
    for fit in fits:
        preflight(fit, "ingest", "fit")
    experiment = scored_experiment(key, part, name, 8, tmp_path, data)
    preflight(experiment, "ingest", "attack", "evaluate")
    loaded = [item.options["load"] for item in experiment.defenses if "load" in item.options]
    assert all(str(place).startswith(tuple(fit.root for fit in fits)) for place in loaded)
    assert name == experiment.defenses[-1].name


def test_identity_rows_on_one_space_are_fitted_in_one_root(tmp_path):
    part = PARTS["cifar10-resnet20"]
    assert (
        fit_root(part, "stl", tmp_path) == fit_root(part, "stl-cluster", tmp_path) != fit_root(part, "magnet", tmp_path)
    )


def test_identity_the_papers_rows_are_whole_and_ours_name_them():
    named = {row.paper for row in ROWS.values()} - {None}
    assert named <= {name for table in TABLES.values() for name, _ in table.rows} | set(BPDA)
    for table in TABLES.values():
        assert table.rows[0][0] == NO_DEFENSE
        assert all(len(values) == len(COLUMNS) for _, values in table.rows)


def test_identity_gains_and_shares():
    figures = ours(_scores("stl", {"none": (8, 2, 4, 0, 0, 0), "stl": (6, 5, 4, 4, 8, 6)}), "stl")
    assert figures["Clean"].share is None and figures["Clean"].gain == pytest.approx(-0.2)
    assert figures["FGSM-0.08"].gain == pytest.approx(0.3) and figures["FGSM-0.08"].share == pytest.approx(0.5)
    assert figures["FGSM-0.04"].share == pytest.approx(0)
    paper = papers(TABLES["5"])["STL"]["FGSM-0.08"]
    assert paper.gain == pytest.approx(0.7099 - 0.5816) and paper.share == pytest.approx(0.1283 / 0.3482)


def test_identity_correlation_of_ranks():
    assert correlation([(1, 10), (2, 20), (3, 30)]) == pytest.approx(1)
    assert correlation([(1, 30), (2, 20), (3, 10)]) == pytest.approx(-1)
    assert correlation([(1, 1), (2, 2)]) is None
    assert correlation([(1, 1), (1, 2), (1, 3)]) is None


def test_identity_the_page_has_what_is_done():
    none = (8, 2, 4, 0, 0, 0)
    rows = {
        "tvm": (5, 2, 4, 3, 5, 5), "pd-ens": (7, 2, 5, 3, 6, 6), "stl": (6, 5, 4, 4, 8, 6), "jpeg": (7, 2, 4, 1, 3, 2),
    }  # fmt: skip
    done = {name: Done(_scores(name, {"none": none, name: counts}), "abc") for name, counts in rows.items()}
    page = report("imagenet10-64", done)
    assert page.count("| no defense | 10 | 0.800 [") == 1
    assert "| stl | 10 | 0.600 [" in page and "| stl | 10 | -0.200 [" in page
    assert "| stl, ours | 0.600 (-0.200) | 0.500 (+0.300, 50 %)" in page
    assert "| TVM, the paper's | 0.817 (-0.049) | 0.340 (+0.059, 10 %)" in page
    assert "| jpeg, ours" not in page
    assert "over 3 rows" in page and "Not run: median-filter" in page


def _scores(defense: str, counts: dict[str, tuple[int, ...]]) -> Scores:
    cells = []
    for name, row in counts.items():
        for attack, correct, bare in zip(SETS, row, counts["none"], strict=True):
            low, high = wilson(correct, 10)[1:]
            versus = None
            if name != "none":
                gained, lost = max(0, correct - bare), max(0, bare - correct)
                gain = paired_difference(min(correct, bare), gained, lost, 10 - max(correct, bare))
                versus = {"difference": gain.estimate, "low": gain.low, "high": gain.high, "p": 0.5}
            cells.append(
                {
                    "setting": "vanilla",
                    "defense": name,
                    "attack": attack,
                    "threat": "T1a",
                    "correct": correct,
                    "total": 10,
                    "accuracy": correct / 10,
                    "low": low,
                    "high": high,
                    "float_disagreements": 0,
                    "psnr": None,
                    "cluster_changed": None,
                    "detection": None,
                    "versus_none": versus,
                }
            )
    spread = {"min": 0.0, "mean": 0.02, "max": 0.03}
    attack = {"images": 10, "statuses": {"ok": 10}, "successes": 8, "dissimilarity": spread, "linf_max": 0.1}
    values = {
        "format": "scores", "version": 3, "images": 10, "ids_sha256": "", "classifier": "mobilenet", "architecture": "mine",
        "class_names": ["0", "1"], "chance": 0.5, "cells": cells, "attacks": dict.fromkeys(SETS[1:], attack),
    }  # fmt: skip
    return Scores.model_validate(values, strict=False)
