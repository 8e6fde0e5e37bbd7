import io
from dataclasses import replace

import numpy as np
from PIL import Image

from stl_ray.config import Experiment
from stl_ray.report.inputs import read_inputs
from stl_ray.report.records import ScoreCell
from stl_ray.report.sections import build_sections
from stl_ray.report.sweeps import Sweep, attack_sweeps, defense_sweeps, sweep_chart, sweep_figures
from tests.report.conftest import score_cell

EXPERIMENT = Experiment.model_validate(
    {
        "name": "sweep",
        "root": "runs/sweep",
        "spaces": [
            {"name": "small", "dictionary": {"filters": 16}},
            {"name": "middle", "dictionary": {"filters": 32}},
            {"name": "large", "dictionary": {"filters": 64}},
        ],
        "defenses": [
            {"name": "q90", "defense": "jpeg", "options": {"quality": 90}},
            {"name": "q30", "defense": "jpeg", "options": {"quality": 30}},
            {"name": "q50", "defense": "jpeg", "options": {"quality": 50}},
            {"name": "tvm", "defense": "tvm", "options": {"weight": 0.03}},
            {"name": "stl-small", "defense": "stl", "options": {"space": "small"}},
            {"name": "stl-large", "defense": "stl", "options": {"space": "large"}},
            {"name": "stl-middle", "defense": "stl", "options": {"space": "middle"}},
            {"name": "stl-other", "defense": "stl", "options": {"space": "large", "lmbda": 0.4}},
        ],
        "attack": {
            "sets": [
                {"name": "weak", "attack": "fgsm", "dissimilarity": 0.02},
                {"name": "strong", "attack": "fgsm", "dissimilarity": 0.08},
                {"name": "middling", "attack": "fgsm", "dissimilarity": 0.04},
                {"name": "other", "attack": "bim", "dissimilarity": 0.04},
                {"name": "flat", "attack": "fgsm", "linf": 8},
            ]
        },
    },
    strict=False,
)
DEFENSES = ("none", "q90", "q30", "q50", "tvm")
ATTACKS = ("clean", "weak", "strong", "middling", "other")


def cells(setting="vanilla", attacks=ATTACKS):
    """Cells whose accuracies all differ."""
    made = []
    for row, defense in enumerate(DEFENSES):
        for column, attack in enumerate(attacks):
            cell = score_cell(
                setting, "jpeg" if row else "none", "clean", 190 - 20 * row - 7 * column, 180 - 7 * column
            )
            made.append(ScoreCell.model_validate({**cell, "defense": defense, "attack": attack}))
    return tuple(made)


def test_certificate_what_differs_in_one_number_is_a_sweep_and_nothing_else():
    assert defense_sweeps(EXPERIMENT) == (
        Sweep("options.quality", ((30.0, "q30"), (50.0, "q50"), (90.0, "q90"))),
        Sweep("space.dictionary.filters", ((16.0, "stl-small"), (32.0, "stl-middle"), (64.0, "stl-large"))),
    )
    assert attack_sweeps(EXPERIMENT) == (
        Sweep("dissimilarity", ((0.02, "weak"), (0.04, "middling"), (0.08, "strong"))),
    )


def test_agrees_curves_and_bands_with_the_cells(measured):
    scores = measured.model_copy(update={"cells": cells()})
    figures = {figure.name: figure for figure in sweep_figures(EXPERIMENT, scores)}
    assert list(figures) == ["sweep-vanilla-defenses-q30-options.quality", "sweep-vanilla-sets-weak-dissimilarity"]
    assert "over options.quality, of q30, q50, q90" in figures["sweep-vanilla-defenses-q30-options.quality"].caption
    with Image.open(io.BytesIO(figures["sweep-vanilla-defenses-q30-options.quality"].png)) as image:
        assert image.size[0] > 600
    by_name = {(cell.defense, cell.attack): cell for cell in cells()}
    points = {"Clean": [(float(q), by_name[f"q{q}", "clean"]) for q in (30, 50, 90)]}
    axes = sweep_chart("options.quality", points, {"Clean": 0.9}, 0.1).axes[0]
    line, level, chance = axes.get_lines()
    np.testing.assert_allclose(line.get_xydata(), [(x, cell.accuracy) for x, cell in points["Clean"]])
    assert set(level.get_ydata()) == {0.9} and set(chance.get_ydata()) == {0.1}
    (band,) = axes.collections
    found = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert {(x, round(limit, 6)) for x, cell in points["Clean"] for limit in (cell.low, cell.high)} <= found
    assert axes.get_xscale() == "linear"
    wide = [(value, cell) for value, (_, cell) in zip((4.0, 16.0, 64.0), points["Clean"], strict=True)]
    assert sweep_chart("filters", {"Clean": wide}, {}, 0.1).axes[0].get_xscale() == "log"


def test_identity_a_security_curve_begins_with_the_clean_images(measured):
    scores = measured.model_copy(update={"cells": cells()})
    before = {figure.name: figure.png for figure in sweep_figures(EXPERIMENT, scores)}
    without = scores.model_copy(update={"cells": tuple(cell for cell in scores.cells if cell.attack != "clean")})
    after = {figure.name: figure.png for figure in sweep_figures(EXPERIMENT, without)}
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)
    few = scores.model_copy(update={"cells": cells(attacks=ATTACKS[:2])})
    assert [figure.name for figure in sweep_figures(EXPERIMENT, few)] == ["sweep-vanilla-defenses-q30-options.quality"]


def test_identity_the_page_has_a_section_only_where_there_is_a_sweep(experiment_root):
    inputs = read_inputs(str(experiment_root))
    (block,) = inputs.blocks
    plain = replace(inputs, blocks=(replace(block, gallery=()),), spaces=(), training={})
    assert "sweeps" not in [section.anchor for section in build_sections(plain)]
    scores = block.scores.model_copy(update={"cells": cells(), "attacks": {}})
    swept = replace(plain, experiment=EXPERIMENT, blocks=(replace(block, gallery=(), scores=scores),))
    assert "sweeps" in [section.anchor for section in build_sections(swept)]
