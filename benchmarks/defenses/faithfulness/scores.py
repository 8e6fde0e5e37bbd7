"""The scores of the rows that are done."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.pages import commit
from benchmarks.defenses.faithfulness.rows import ROWS
from stl_ray.config import Experiment
from stl_ray.report.records import Scores
from stl_ray.store import Layout, Storage


@dataclass(frozen=True)
class Done:
    """A row that is done.

    Attributes:
        scores: as `evaluate` left them.
        commit: of the checkout that they were made by.
    """

    scores: Scores
    commit: str


def keep(experiment: Experiment, root: Path, part: str, row: str) -> None:
    """Keep the scores of a row beside those of others: `evaluate` writes those of its experiment over the last ones."""
    made = Storage.open(experiment.root).read_json(Layout(experiment.root).scores(experiment.classifiers[0].name))
    Storage.open(str(root)).write_json(_place(part, row), {"scores": made, "commit": commit()})


def read_all(part: str, root: Path) -> Mapping[str, Done]:
    """By row, what is done of a part, in the order of the tables."""
    storage = Storage.open(str(root))
    found = {}
    for row in ROWS:
        if storage.exists(_place(part, row)):
            stored = storage.read_json(_place(part, row))
            found[row] = Done(Scores.model_validate(stored["scores"], strict=False), stored["commit"])
    return found


def _place(part: str, row: str) -> str:
    return f"scores/{part}/{row}.json"
