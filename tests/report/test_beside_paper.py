from dataclasses import replace

import pytest

from stl_ray.attacks import budget_of
from stl_ray.config import Experiment, NamedAttack
from stl_ray.report.beside_paper import beside_paper
from stl_ray.report.inputs import read_inputs
from stl_ray.report.paper import TABLES
from stl_ray.report.records import Scores
from stl_ray.report.sections import build_sections
from tests.report.conftest import score_cell, scores

BY_NUMBER = {table.number: table for table in TABLES}


def experiment(**sections) -> Experiment:
    defenses = [
        {"name": "quilting", "defense": "quilting"},
        {"name": "smooth", "defense": "tvm"},
        {"name": "crops", "defense": "crop_ensemble", "options": {"of": ["none", "smooth", "quilting"]}},
        {"name": "few-crops", "defense": "crop_ensemble", "options": {"of": ["none", "smooth"]}},
        {"name": "patches", "defense": "d3", "options": {"sparsity": 4}},
        {"name": "ours", "defense": "stl"},
        {"name": "coded", "defense": "robust_classifier", "options": {"classifier": "thermometer"}},
        {"name": "robust", "defense": "robust_classifier", "options": {"classifier": "adversarial"}},
    ]
    classifiers = [
        {"name": "adversarial", "architecture": "cifar_resnet20"},
        {"name": "thermometer", "architecture": "thermometer_resnet20"},
    ]
    sets = [
        {"name": "mean", "attack": "fgsm", "dissimilarity": 0.08, "budget": "dataset_mean"},
        {"name": "through", "attack": "fgsm", "dissimilarity": 0.08, "victim": {"defense": "ours"}},
        {"name": "retrained", "attack": "fgsm", "dissimilarity": 0.08, "victim": {"retrained_for": "ours"}},
        {"name": "other", "attack": "fgsm", "dissimilarity": 0.08, "victim": {"classifier": "adversarial"}},
        {"name": "standardized", "attack": "fgsm", "dissimilarity": 0.08, "space": "standardized"},
        {"name": "large", "attack": "fgsm", "dissimilarity": 0.08},
        {"name": "vector", "attack": "uap", "dissimilarity": 0.08},
    ]
    values = {"name": "e", "root": "runs/e", "spaces": [{"name": "s"}], "classifiers": classifiers, "defenses": defenses,
              "attack": {"sets": sets}}  # fmt: skip
    return Experiment.model_validate({**values, **sections}, strict=False)


def scored(setting: str, *cells: tuple[str, str, int], **more) -> Scores:
    made = [{**score_cell(setting, "none", "clean", correct, correct), "defense": defense, "attack": attack}
            for defense, attack, correct in cells]  # fmt: skip
    return Scores.model_validate({**scores(), "cells": made, **more})


def shown(table) -> dict[str, list[str]]:
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def test_certificate_rows_and_columns_are_the_paper_s_and_ours_stand_where_both_exist():
    found = beside_paper(
        BY_NUMBER["6a"], experiment(),
        scored("vanilla", ("none", "clean", 180), ("none", "large", 40), ("none", "mean", 60), ("none", "through", 70),
               ("none", "retrained", 61), ("none", "other", 62), ("none", "standardized", 63),
               ("smooth", "clean", 150), ("crops", "large", 90), ("few-crops", "large", 10), ("ours", "vector", 30)),
    )  # fmt: skip
    assert found.columns == ("Defense", "Clean", "FGSM-0.08", "FGSM-0.04", "BIM", "DeepFool", "CW")
    assert [row[0].text for row in found.rows] == [name for name, _ in BY_NUMBER["6a"].rows]
    rows, none = shown(found), "–"  # noqa: RUF001
    assert rows["No defence"] == [
        "0.900",
        "0.200",
        none,
        none,
        none,
        none,
    ]  # neither the mean budget nor that on a defense
    assert rows["TVM"][:2] == ["0.750", none]
    assert rows["Crop-Ens"][:2] == [none, "0.450"]  # and not the one without quilting
    assert set(rows["STL (cluster)"]) == set(rows["PD-Ens"]) == {none}
    assert found.rows[0][1].note.endswith("; paper 0.8665") and found.rows[4][2].note == "paper 0.3388"
    for reason in ("STL (cluster): no such defense here", "FGSM-0.04: no such attack here"):
        assert reason in found.footnote
    assert "TVM: " not in found.footnote and "VGG-16 on ImageNet-10" in found.footnote


def test_identity_a_retrained_table_takes_only_retrained_classifiers_and_wrapped_networks():
    found = beside_paper(
        BY_NUMBER["8a"], experiment(),
        scored("vanilla", ("none", "clean", 180), ("robust", "vector", 100), ("ours", "clean", 20)),
    )  # fmt: skip
    assert shown(found)["No defence"][0] == "0.900" and shown(found)["Adv training"][-1] == "0.500"
    stl = experiment(defenses=[{"name": "ours", "defense": "stl_cluster"}])
    cells = (("none", "clean", 180), ("ours", "clean", 20))
    vanilla, retrained = (
        beside_paper(BY_NUMBER["8a"], stl, scored(setting, *cells)) for setting in ("vanilla", "retrained")
    )
    assert "STL (cluster): no classifier was retrained for it" in vanilla.footnote
    assert shown(vanilla)["STL (cluster)"][0] != shown(retrained)["STL (cluster)"][0] == "0.100"


def test_identity_of_two_defenses_of_one_kind_the_row_is_of_the_one_that_was_retrained():
    two = experiment(defenses=[{"name": "first", "defense": "stl"}, {"name": "second", "defense": "stl"}])
    found = beside_paper(BY_NUMBER["1"], two, scored("retrained", ("none", "clean", 180), ("second", "clean", 20)))
    row = next(row for row in found.rows if row[0].text == "STL")
    assert (row[0].note, row[1].text) == ("second", "0.100")


def test_identity_te_is_a_thermometer_network_and_adversarial_training_is_none():
    steps = [{"attack": "pgd", "tier": "T3", "attacked": 100, "held": 30, "refused": 0, "out_of_time": 0, "correct": 20,
              "accuracy": 0.1, "low": 0.05, "high": 0.2}]  # fmt: skip
    worst = {"correct": 1, "total": 200, "accuracy": 0.005, "low": 0.0, "high": 0.1}
    rows = [
        {
            "defense": name,
            "gradient": "exact",
            "images": 100,
            "steps": [{**steps[0], "held": held}],
            "worst": worst,
            "complete": True,
            "flags": [],
        }
        for name, held in (("robust", 90), ("coded", 10))
    ]
    tiers = {"budget": {"kind": "linf", "size": 8 / 255, "space": "pixel", "store": "u8"}, "retrained": [], "cascade": False,
             "sanity": "quick", "knowledge": {}, "grey_box": [], "rows": rows}  # fmt: skip
    found = beside_paper(BY_NUMBER["4"], experiment(), scored("vanilla", ("none", "clean", 180), tiers=tiers))
    assert shown(found)["TE"] == ["0.100"]


def test_identity_the_d3_of_a_row_is_the_one_with_its_atoms():
    found = beside_paper(
        BY_NUMBER["3"], experiment(), scored("retrained", ("none", "clean", 180), ("patches", "clean", 60))
    )
    rows = shown(found)
    assert rows["D3 (10K-4)"][0] == "0.300" and rows["D3 (10K-5)"][0] != "0.300"
    assert found.rows[4][3].note == ""  # where the paper has none, there is nothing behind ours


@pytest.mark.parametrize("cascade", [True, False])
def test_identity_table_4_is_what_the_attacks_of_its_tier_leave_at_its_budget(cascade):
    step = {"attack": "pgd", "tier": "T3", "attacked": 150, "held": 30, "refused": 0, "out_of_time": 0, "correct": 20,
            "accuracy": 0.1, "low": 0.05, "high": 0.2}  # fmt: skip
    other = {**step, "attack": "exact", "tier": "T4", "held": 1, "correct": 1, "accuracy": 0.005}
    worst = {"correct": 1, "total": 200, "accuracy": 0.005, "low": 0.0, "high": 0.1}
    row = {"defense": "ours", "gradient": "exact", "images": 200, "steps": [step, other], "worst": worst, "complete": True,
           "flags": []}  # fmt: skip
    budget = budget_of(NamedAttack(name="a", attack="pgd", linf=8))
    tiers = {"budget": {"kind": "linf", "size": budget.size, "space": "pixel", "store": "u8"}, "retrained": [], "cascade": cascade,
             "sanity": "quick", "knowledge": {}, "grey_box": [], "rows": [row]}  # fmt: skip
    found = beside_paper(BY_NUMBER["4"], experiment(), scored("vanilla", ("none", "clean", 180), tiers=tiers))
    assert shown(found)["STL"] == ["0.100" if cascade else "0.200"]
    assert "on 200 images" in found.footnote
    late = {**tiers, "rows": [{**row, "steps": [{**step, "out_of_time": 1}]}]}
    found = beside_paper(BY_NUMBER["4"], experiment(), scored("vanilla", ("none", "clean", 180), tiers=late))
    assert shown(found)["STL"] == ["–"]  # noqa: RUF001
    deployed = {**tiers, "retrained": ["ours"]}
    found = beside_paper(BY_NUMBER["4"], experiment(), scored("vanilla", ("none", "clean", 180), tiers=deployed))
    assert shown(found)["STL"] == ["–"]  # noqa: RUF001
    small = {**tiers, "budget": {**tiers["budget"], "size": 2 / 255}}
    found = beside_paper(BY_NUMBER["4"], experiment(), scored("vanilla", ("none", "clean", 180), tiers=small))
    assert shown(found)["STL"] == ["–"]  # noqa: RUF001


def test_identity_the_page_has_the_paper_s_tables_of_its_size_instead_of_beside_ours(experiment_root):
    inputs = read_inputs(str(experiment_root))
    (block,) = inputs.blocks
    inputs = replace(inputs, blocks=(replace(block, gallery=()),), spaces=(), training={})
    (section,) = [one for one in build_sections(inputs, paper=True) if one.anchor == "paper"]
    assert [table.caption.partition(":")[0] for table in section.blocks] == [
        f"The paper's Table {number}" for number in ("1", "4", "5", "8a")
    ]
    captions = [
        block.caption for one in build_sections(inputs, paper=True) for block in one.blocks if hasattr(block, "caption")
    ]
    assert sum(caption.startswith("The paper's Table 5") for caption in captions) == 1
    assert "paper" not in [one.anchor for one in build_sections(inputs)]
    sized = inputs.experiment.model_copy(update={"ingest": inputs.experiment.ingest.model_copy(update={"size": 48})})
    (section,) = [one for one in build_sections(replace(inputs, experiment=sized), paper=True) if one.anchor == "paper"]
    assert section.blocks[0].text == "The paper has no table of images of 48 pixels."
