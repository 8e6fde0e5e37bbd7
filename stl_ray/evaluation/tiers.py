"""Verdicts of a defense under every attack on it -> accuracy tier by tier, and the worst case over all of them.

An image is held only if every verdict on it is right: the clean one, and that under each attack. Under the cascade an
image that fell is not attacked again, so what an attack is scored on are the survivors of those before it; the worst
case is the same as if every attack had seen every image.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from stl_ray.errors import InputError
from stl_ray.evaluation.threats import ThreatTier
from stl_ray.statistics import wilson

OUT_OF_TIME = "out_of_time"
"""Status of an image that an attack did not come to in the time that it was given."""

VERDICT = pa.struct(
    [
        pa.field("attack", pa.string()),  # name of the attack in the cascade; clean: none
        pa.field("tier", pa.string()),  # a ThreatTier
        pa.field("prediction", pa.int64()),  # of the deployed pipeline on the stored image, from a cold solve
        pa.field("status", pa.string()),  # how the attack ended (an AttackStatus), or out_of_time
        pa.field("dissimilarity", pa.float32()),  # of the stored image
        pa.field("linf", pa.float32()),  # in [0, 1] pixels
        pa.field("queries", pa.int32()),  # passes through the victim that the method spent
        pa.field("share", pa.float64()),  # of the budget that the stored image uses, measured anew; null: it was not
    ]
)

VERDICTS_SCHEMA = pa.schema(
    [pa.field("id", pa.string()), pa.field("label", pa.int64()), pa.field("verdicts", pa.list_(VERDICT))]
)
"""One row per image for one defense; verdicts in the order of the cascade."""


@dataclass(frozen=True)
class Step:
    """One attack of the cascade."""

    attack: str
    tier: str
    attacked: int  # images that it was tried on: the survivors of those before it
    held: int  # of these, still right
    out_of_time: int  # survivors that it did not come to
    correct: int  # images that this attack and all before it left right
    accuracy: float  # correct over all images
    low: float  # of the 95 % Wilson interval
    high: float
    statuses: dict[str, int]


def cascade_scores(table: pa.Table, item: str, attacks: Mapping[str, ThreatTier]) -> dict[str, Any]:
    """Every attack's step, and the worst case.

    Args:
        table: of `VERDICTS_SCHEMA`, rows in any order.
        item: what it is a table of, for errors.
        attacks: the tier of every attack, in their order; one that no image survived to has a step too.

    Returns:
        `images`; `steps`, of `Step`, that on the clean images first; `worst`: correct, total, accuracy, low, high;
        `complete`: whether every attack came to every image that had survived until then; `largest_share`: of its budget
        that an image uses, None where none was measured.

    Raises:
        InputError: no row, an id twice, no clean verdict, or attacks of another tier or in another order than said.
    """
    rows = _checked(table, item)
    order = {"clean": ThreatTier.CLEAN, **attacks}
    _require_order(rows, order, item)
    found = [{verdict["attack"]: verdict for verdict in row["verdicts"]} for row in rows]
    labels = [row["label"] for row in rows]
    alive = np.ones(len(rows), dtype=bool)
    steps = []
    for attack, tier in order.items():
        own = [verdicts.get(attack) for verdicts in found]
        came = np.array([verdict is not None and verdict["status"] != OUT_OF_TIME for verdict in own])
        late = np.array([verdict is not None and verdict["status"] == OUT_OF_TIME for verdict in own])
        right = np.array([v is not None and v["prediction"] == label for v, label in zip(own, labels, strict=True)])
        alive &= right | ~came
        interval = wilson(int(alive.sum()), len(rows))
        statuses = Counter(verdict["status"] for verdict in own if verdict is not None)
        steps.append(
            Step(
                attack=attack,
                tier=str(tier),
                attacked=int(came.sum()),
                held=int((came & right).sum()),
                out_of_time=int(late.sum()),
                correct=int(alive.sum()),
                accuracy=interval.estimate,
                low=interval.low,
                high=interval.high,
                statuses=dict(sorted(statuses.items())),
            )
        )
    last = steps[-1]
    shares = [v["share"] for row in rows for v in row["verdicts"] if v["share"] is not None]
    worst = {"correct": last.correct, "total": len(rows)} | {
        name: getattr(last, name) for name in ("accuracy", "low", "high")
    }
    return {
        "images": len(rows),
        "steps": [asdict(step) for step in steps],
        "worst": worst,
        "complete": not any(step.out_of_time for step in steps),
        "largest_share": max(shares, default=None),
    }


def with_further(
    table: pa.Table, attack: str, tier: ThreatTier, predictions: Mapping[str, int], cascade: bool
) -> pa.Table:
    """The verdicts with those of one more attack after them, on some of the images.

    Args:
        table: of `VERDICTS_SCHEMA`.
        attack: its name.
        tier: what it knows.
        predictions: by id, what the deployed pipeline says of the attacked image.
        cascade: whether images that fell before are left out.
    """
    rows = table.to_pylist()
    alive = set(survivors([row["label"] for row in rows], [row["verdicts"] for row in rows]))
    for number, row in enumerate(rows):
        if row["id"] in predictions and (number in alive or not cascade):
            row["verdicts"].append(
                {"attack": attack, "tier": str(tier), "prediction": predictions[row["id"]], "status": "ok"}
            )
    return pa.Table.from_pylist(rows, schema=VERDICTS_SCHEMA)


def fixed_ids(ids: Sequence[str], count: int | None) -> list[str]:
    """The `count` ids whose SHA-256 is lowest, or all: the same of the same images, whatever their order or number."""
    ordered = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())
    return ordered if count is None else ordered[:count]


def survivors(labels: Sequence[int], verdicts: Sequence[Sequence[dict[str, Any]]]) -> list[int]:
    """The positions of the images whose every verdict so far is right; an attack that ran out of time says nothing."""
    return [
        position
        for position, (label, own) in enumerate(zip(labels, verdicts, strict=True))
        if all(verdict["prediction"] == label for verdict in own if verdict["status"] != OUT_OF_TIME)
    ]


def _checked(table: pa.Table, item: str) -> list[dict[str, Any]]:
    missing = [name for name in VERDICTS_SCHEMA.names if name not in table.column_names]
    if missing or table.num_rows == 0:
        raise InputError("not a table of verdicts", item=item, expected="rows of every column", got=missing or "none")
    rows: list[dict[str, Any]] = table.select(VERDICTS_SCHEMA.names).cast(VERDICTS_SCHEMA).sort_by("id").to_pylist()
    for before, after in pairwise(rows):
        if before["id"] == after["id"]:
            raise InputError("an id comes twice", item=item, got=after["id"])
    for row in rows:
        if not row["verdicts"] or row["verdicts"][0]["tier"] != ThreatTier.CLEAN:
            raise InputError("no verdict on the clean image", item=f"{item} {row['id']}", expected="T0 first")
    return rows


def _require_order(rows: Sequence[dict[str, Any]], order: Mapping[str, ThreatTier], item: str) -> None:
    """Every image's attacks are those of the cascade in its order, some perhaps left out."""
    place = {pair: number for number, pair in enumerate(order.items())}
    for row in rows:
        own = [(verdict["attack"], verdict["tier"]) for verdict in row["verdicts"]]
        places = [place.get(pair, -1) for pair in own]
        if places != sorted(set(places)) or -1 in places:
            raise InputError(
                "attacks in another order", item=f"{item} {row['id']}", expected=list(order.items()), got=own
            )
