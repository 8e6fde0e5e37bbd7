from dataclasses import replace

import pytest

from stl_ray.report import charts
from stl_ray.report.accuracy import accuracy_table
from stl_ray.report.blocks import EMPTY, Figure
from stl_ray.report.detection import detection_table
from stl_ray.report.inputs import read_inputs
from stl_ray.report.records import Area, Detection, Share
from stl_ray.report.sections import build_sections


def share(count: int, total: int) -> Share:
    return Share(count=count, total=total, share=count / total, low=0.1, high=0.9)


@pytest.fixture
def refusing(measured):
    """The scores with a detector in front of JPEG, which refused 4 clean images and 50 of every attack."""

    def detection(cell):
        if cell.defense != "jpeg":
            return None
        if cell.attack == "clean":
            return Detection(refused=share(4, 200), accepted=share(160, 196), auroc=None, roc=None)
        accepted = None if cell.attack == "bim-0.03" else share(20, 150)
        area, roc = Area(estimate=0.875, low=0.8, high=0.925), ((0.0, 0.0), (0.25, 1.0), (1.0, 1.0))
        return Detection(refused=share(50, 200), accepted=accepted, auroc=area, roc=roc)

    cells = tuple(cell.model_copy(update={"detection": detection(cell)}) for cell in measured.cells)
    return measured.model_copy(update={"cells": cells})


def test_identity_a_row_for_each_set_of_a_defense_that_refuses(refusing, measured):
    table = detection_table(refusing, "vanilla")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["JPEG", "FGSM-0.08", "0.020", "0.250", "0.133", "0.875"],
        ["JPEG", "FGSM-0.04", "0.020", "0.250", "0.133", "0.875"],
        ["JPEG", "BIM-0.03", "0.020", "0.250", EMPTY.text, "0.875"],
    ]
    assert [cell.note for cell in table.rows[0]][2:] == ["[0.100, 0.900]"] * 3 + ["[0.800, 0.925]"]
    assert "wrong when clean and right when attacked" in table.footnote
    assert detection_table(measured, "vanilla") is None


def test_identity_without_a_set_the_clean_images_are_the_row(refusing):
    clean = tuple(cell for cell in refusing.cells if cell.attack == "clean")
    table = detection_table(refusing.model_copy(update={"cells": clean}), "vanilla")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["JPEG", EMPTY.text, "0.020", EMPTY.text, "0.816", EMPTY.text]
    ]


def test_identity_tables_say_what_right_means_only_beside_a_detector(refusing, measured):
    assert "right when attacked" in accuracy_table(refusing, "vanilla").footnote
    assert "right when attacked" not in accuracy_table(measured, "vanilla").footnote


def test_identity_the_page_has_curves_only_of_detectors(refusing, experiment_root):
    inputs = read_inputs(str(experiment_root))
    (block,) = (replace(block, gallery=()) for block in inputs.blocks)

    def figures(scores):
        shown = replace(inputs, blocks=(replace(block, scores=scores),), spaces=(), training={})
        blocks = [one for section in build_sections(shown) for one in section.blocks]
        return [one.name for one in blocks if isinstance(one, Figure)]

    assert figures(refusing).count("roc") == 1
    assert "roc" not in figures(block.scores)


def test_agrees_the_curve_with_its_points(refusing):
    (axes,) = charts.drawn(charts.roc_chart, refusing).axes
    curves = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(curves) == 3
    assert list(curves[0].get_xdata()) == [0, 0.25, 1] and list(curves[0].get_ydata()) == [0, 1, 1]
    dots = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert {(float(dot.get_xdata()[0]), float(dot.get_ydata()[0])) for dot in dots} == {(0.02, 0.25)}
