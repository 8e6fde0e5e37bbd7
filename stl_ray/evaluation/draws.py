"""A randomised defense asked again and again: what one draw says, what most say, and what all of them leave.

Reports of such a defense differ by which of the three they give. An attacker who may ask N times needs one wrong answer, so
`every` is what is left against him; a service that asks N times itself has the `majority`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from stl_ray.defenses import Defended
from stl_ray.evaluation.predictions import Cell
from stl_ray.evaluation.scores import Setting
from stl_ray.evaluation.shares import Share
from stl_ray.rightness import right
from stl_ray.seeding import seed_of
from stl_ray.store.layout import CLEAN

_SETTINGS: tuple[Setting, ...] = ("vanilla", "retrained")

DRAWS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("label", pa.int64()),
        pa.field("vanilla", pa.list_(pa.int64())),  # by draw, what the deployed pipeline predicts
        pa.field("retrained", pa.list_(pa.int64())),
    ]
)
"""One row per image for one (defense, attack set). No randomised defense has a detector, so nothing is refused."""


@dataclass(frozen=True)
class DrawScore:
    """A randomised defense on one set of images, over several draws.

    Attributes:
        setting: of the classifier.
        defense: its name.
        attack: name of the set.
        draws: of every image.
        single: accuracy of one draw, the mean over the draws.
        spread: standard deviation of that accuracy from draw to draw (n - 1); None of one draw.
        majority: images on which the most frequent answer is right; of answers that are as frequent, the lowest class.
        every: images on which all draws are right.
    """

    setting: Setting
    defense: str
    attack: str
    draws: int
    single: float
    spread: float | None
    majority: Share
    every: Share


def drawn(
    models: Mapping[str, Defended], images: Tensor, labels: Sequence[int], ids: Sequence[str], draws: int
) -> list[dict[str, Any]]:
    """Rows of `DRAWS_SCHEMA`, one per image; an image's row does not depend on other images.

    Args:
        models: by setting, the classifiers behind one defense; one that is both is asked once.
        images: (B, 3, H, W) float32 in [0, 1], B >= 1.
        labels: of the images.
        ids: of the images.
        draws: of every image, each by seeds of its own.

    Raises:
        TensorError: logits are not finite.
    """
    answers: dict[str, list[list[int]]] = {setting: [] for setting in models}
    for number in range(draws):
        seeded = {
            setting: replace(model, seed=seed_of(model.seed, str(number), "evaluate.draws"))
            for setting, model in models.items()
        }
        views = seeded["vanilla"].purify(images, ids)
        for setting, model in seeded.items():
            if setting == "vanilla" or models[setting] is not models["vanilla"]:
                predicted = model.decide(images, ids, views=views).prediction.tolist()
            answers[setting].append(predicted)
    return [
        {
            "id": ids[row],
            "label": labels[row],
            **{setting: [values[row] for values in of_draws] for setting, of_draws in answers.items()},
        }
        for row in range(len(ids))
    ]


def draw_scores(
    tables: Mapping[Cell, pa.Table], *, scored: Collection[str], retrained: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The part of a classifier's scores.json that speaks of draws: a `DrawScore` for each cell and setting.

    Args:
        tables: `DRAWS_SCHEMA`, of randomised defenses on clean images and attack sets.
        scored: ids of the images that count: those of the tables of predictions.
        retrained: defenses that the classifier was retrained for.
    """
    wanted = pa.array(sorted(set(scored)))
    rows = {cell: table.filter(pc.is_in(table.column("id"), wanted)) for cell, table in tables.items()}
    return [
        asdict(_score(table, setting, defense, attack))
        for setting in _SETTINGS
        for (defense, attack), table in rows.items()
        if setting == "vanilla" or defense in retrained
    ]


def _score(table: pa.Table, setting: Setting, defense: str, attack: str) -> DrawScore:
    labels, predicted = table.column("label").to_numpy(), np.array(table.column(setting).to_pylist())
    attacked = attack != CLEAN
    held = right(predicted, labels[:, None], False, attacked=attacked)
    winners = [_most_frequent(row) for row in predicted]
    majority = Share.of(right(winners, labels, False, attacked=attacked))
    every = Share.of(np.all(held, axis=1))
    if majority is None or every is None:
        raise AssertionError("scored tables have rows")
    by_draw = held.mean(0)
    spread = float(by_draw.std(ddof=1)) if len(by_draw) > 1 else None
    return DrawScore(setting, defense, attack, held.shape[1], float(by_draw.mean()), spread, majority, every)


def _most_frequent(votes: np.ndarray) -> int:
    values, counts = np.unique(votes, return_counts=True)
    return int(values[counts.argmax()])
