"""Cells of two experiments, A and B, compared image by image: which there are, and what their predictions say."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stl_ray.config import ClassifierConfig, Experiment
from stl_ray.report.names import UNDEFENDED, unique
from stl_ray.rightness import right
from stl_ray.statistics import Interval, holm, paired
from stl_ray.store.layout import CLEAN

Setting = Literal["vanilla", "retrained"]


class Pair(NamedTuple):
    """A cell of A and one of B: a classifier in a setting, behind a defense of each, on an attack set or the clean images."""

    classifier: str
    setting: Setting
    defenses: tuple[str, str]
    attack: str

    @property
    def row(self) -> str:
        """The defense, or those of A and B: `jpeg`, `jpeg → stl`."""
        return " → ".join(unique(self.defenses))


class Held(NamedTuple):
    """Of the images that both have, which are right.

    Attributes:
        first: whether A is right, (N,) bool.
        second: whether B is right on the same image, (N,) bool.
        left_out: images of A and of B that the other has not.
    """

    first: NDArray[np.bool_]
    second: NDArray[np.bool_]
    left_out: tuple[int, int]


@dataclass(frozen=True)
class Compared:
    """B minus A on the images that both have."""

    pair: Pair
    images: int
    left_out: tuple[int, int]
    accuracies: tuple[float, float]
    difference: Interval  # B - A
    p: float  # exact two-sided McNemar test
    p_adjusted: float  # by Holm's method, over all cells of the comparison

    @property
    def apart(self) -> bool:
        """Whether the interval excludes 0."""
        return self.difference.low > 0 or self.difference.high < 0


def pairs_of(first: Experiment, second: Experiment, defenses: tuple[str, str] | None = None) -> list[Pair]:
    """Every cell of A beside that of B, where at least one of them is planned.

    Args:
        first: A.
        second: B.
        defenses: of A and of B, to be compared with each other; None: every row with the same row of the other.
    """
    both = (first, second)
    rows = [defenses] if defenses else [(name, name) for name in unique(name for one in both for name in rows_of(one))]
    attacks = unique(name for one in both for name in (CLEAN, *(item.name for item in one.attack.sets)))
    settings: tuple[Setting, ...] = ("vanilla", "retrained")
    return [
        pair
        for classifier in unique(item.name for one in both for item in one.classifiers)
        for setting in settings
        for row in rows
        # Without a defense nothing is retrained: it is the cell of the vanilla setting once more.
        if setting == "vanilla" or row != (UNDEFENDED, UNDEFENDED)
        for attack in attacks
        for pair in [Pair(classifier, setting, row, attack)]
        if any(is_planned(one, pair, place) for place, one in enumerate(both))
    ]


def rows_of(experiment: Experiment) -> tuple[str, ...]:
    """The names of the rows of its tables."""
    return (UNDEFENDED, *(defense.name for defense in experiment.defenses))


def is_planned(experiment: Experiment, pair: Pair, place: int) -> bool:
    """Whether the configuration of A (place 0) or of B (1) has its cell of a pair."""
    defense = pair.defenses[place]
    return (
        any(item.name == pair.classifier and _is_in(item, pair.setting, defense) for item in experiment.classifiers)
        and defense in rows_of(experiment)
        and (pair.attack == CLEAN or any(item.name == pair.attack for item in experiment.attack.sets))
    )


def _is_in(classifier: ClassifierConfig, setting: Setting, defense: str) -> bool:
    if not classifier.scored or setting == "vanilla":
        return classifier.scored
    return classifier.retrain is not None and (defense == UNDEFENDED or classifier.retrained_for(defense))


def held(pair: Pair, first: pa.Table, second: pa.Table) -> Held:
    """What is right of the images that both cells have, matched by id and label.

    Args:
        pair: the cells.
        first: predictions of A (`id`, `label`, and of both settings the class and `_rejected`), rows in any order.
        second: those of B.
    """
    _, one, other = np.intersect1d(_column(first, "id"), _column(second, "id"), return_indices=True)
    same = _column(first, "label")[one] == _column(second, "label")[other]
    left_out = len(first) - int(same.sum()), len(second) - int(same.sum())
    return Held(_right(first, pair, one[same]), _right(second, pair, other[same]), left_out)


def _right(table: pa.Table, pair: Pair, places: NDArray[np.intp]) -> NDArray[np.bool_]:
    names = (pair.setting, "label", f"{pair.setting}_rejected")
    return right(*(_column(table, name)[places] for name in names), attacked=pair.attack != CLEAN)


def _column(table: pa.Table, name: str) -> np.ndarray:
    values: np.ndarray = table.column(name).to_numpy()
    return values


def compared(cells: Iterable[tuple[Pair, Held]]) -> tuple[Compared, ...]:
    """The comparisons of all cells, whose p-values are adjusted together; each cell has an image."""
    found = [(pair, item, *paired(item.second, item.first)) for pair, item in cells]
    adjusted = holm([p for *_, p in found])
    return tuple(
        Compared(
            pair, len(item.first), item.left_out, (float(item.first.mean()), float(item.second.mean())), difference, p, by_holm
        )
        for (pair, item, difference, p), by_holm in zip(found, adjusted, strict=True)
    )  # fmt: skip


def by_block(cells: Sequence[Compared]) -> Iterator[tuple[tuple[str, Setting], list[Compared]]]:
    """The cells of every classifier in every setting, in their order."""
    for block in dict.fromkeys((cell.pair.classifier, cell.pair.setting) for cell in cells):
        yield block, [cell for cell in cells if (cell.pair.classifier, cell.pair.setting) == block]
