"""The experiments of benchmarks/paper: sound, and with a set for every column of the tables that they are of."""

from pathlib import Path

import pytest

from stl_ray.config import load_experiment
from stl_ray.defenses import options_of
from stl_ray.report.paper import TABLES

FOLDER = Path(__file__).parents[2] / "benchmarks" / "paper"


@pytest.mark.parametrize(("file", "numbers"), [("cifar10.yaml", ("1", "5"))])
def test_every_column_has_its_set_and_every_option_is_one(file, numbers):
    experiment = load_experiment(str(FOLDER / file))
    sets = {(item.attack, item.dissimilarity) for item in experiment.attack.sets}
    for table in (table for table in TABLES if table.number in numbers):
        assert {(column.attack, column.dissimilarity) for column in table.columns} - {(None, None)} <= sets
    for defense in experiment.defenses:
        options_of(defense.defense, defense.options)


def test_files_are_the_ones_that_are_tried():
    assert {path.name for path in FOLDER.iterdir()} == {"cifar10.yaml"}
