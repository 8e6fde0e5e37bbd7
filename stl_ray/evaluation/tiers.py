"""Verdict table of a defense under all attacks, scores per attack, and the worst case over all attacks.

An image survives only if all its verdicts are right: on the clean image and under each attack. In a cascade a
misclassified image is not attacked again, so an attack is scored on the survivors of all earlier attacks; the worst
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
from stl_ray.rightness import right
from stl_ray.statistics import wilson
from stl_ray.threats import ThreatTier

OUT_OF_TIME = "out_of_time"
"""Status of an image that an attack did not reach within its time limit."""

VERDICT = pa.struct(
    [
        pa.field("attack", pa.string()),  # name of the attack in the cascade; clean: no attack
        pa.field("tier", pa.string()),  # a ThreatTier
        pa.field("prediction", pa.int64()),  # of the deployed pipeline on the stored image, from a cold solve
        pa.field("rejected", pa.bool_()),  # whether the defense's detector refused the stored image; no: there is none
        pa.field("status", pa.string()),  # how the attack ended (an AttackStatus), or out_of_time
        pa.field("dissimilarity", pa.float32()),  # of the stored image
        pa.field("linf", pa.float32()),  # in [0, 1] pixels
        pa.field("queries", pa.int32()),  # passes through the victim by the method
        pa.field("share", pa.float64()),  # budget usage of the stored image (`budget_usage`); null: not measured
    ]
)

VERDICTS_SCHEMA = pa.schema(
    [pa.field("id", pa.string()), pa.field("label", pa.int64()), pa.field("verdicts", pa.list_(VERDICT))]
)
"""One row per image for one defense, with verdicts in the order of the cascade."""


@dataclass(frozen=True)
class Step:
    """Score of one attack of the cascade."""

    attack: str
    tier: str
    attacked: int  # attacked images: survivors of all earlier attacks
    held: int  # attacked images that are still right: their class, or refused by the defense's detector
    refused: int  # attacked images that the detector refused; of the clean ones those are wrong
    out_of_time: int  # survivors that were not attacked in time
    correct: int  # images that are right under this attack and all earlier attacks
    accuracy: float  # correct over all images
    low: float  # of the 95 % Wilson interval
    high: float
    statuses: dict[str, int]


def cascade_scores(table: pa.Table, item: str, attacks: Mapping[str, ThreatTier]) -> dict[str, Any]:
    """Score of every attack, and the worst case.

    Args:
        table: of `VERDICTS_SCHEMA`, rows in any order.
        item: name of the table for errors.
        attacks: tier of every attack, in order; an attack without survivors to attack has a step as well.

    Returns:
        `images`; `steps`, of `Step`, the clean images first; `worst`: correct, total, accuracy, low, high; `complete`:
        whether every attack reached all its survivors in time; `largest_share`: largest budget usage, None if not
        measured.

    Raises:
        InputError: no row, a repeated id, no clean verdict, or attacks with another tier or order than in `attacks`.
    """
    rows = _checked(table, item)
    order = {"clean": ThreatTier.CLEAN, **attacks}
    _require_order(rows, order, item)
    by_attack = [{verdict["attack"]: verdict for verdict in row["verdicts"]} for row in rows]
    labels = [row["label"] for row in rows]
    alive = np.ones(len(rows), dtype=bool)
    steps = []
    for attack, tier in order.items():
        column = [verdicts.get(attack) for verdicts in by_attack]
        attacked = np.array([verdict is not None and verdict["status"] != OUT_OF_TIME for verdict in column])
        late = np.array([verdict is not None and verdict["status"] == OUT_OF_TIME for verdict in column])
        held = np.array([v is not None and _held(v, label) for v, label in zip(column, labels, strict=True)])
        alive &= held | ~attacked
        interval = wilson(int(alive.sum()), len(rows))
        refused = np.array([verdict is not None and verdict["rejected"] for verdict in column])
        statuses = Counter(verdict["status"] for verdict in column if verdict is not None)
        steps.append(
            Step(
                attack=attack,
                tier=str(tier),
                attacked=int(attacked.sum()),
                held=int((attacked & held).sum()),
                refused=int((attacked & refused).sum()),
                out_of_time=int(late.sum()),
                correct=int(alive.sum()),
                accuracy=interval.estimate,
                low=interval.low,
                high=interval.high,
                statuses=dict(sorted(statuses.items())),
            )
        )
    last = steps[-1]
    usage = [v["share"] for row in rows for v in row["verdicts"] if v["share"] is not None]
    worst = {"correct": last.correct, "total": len(rows)} | {
        name: getattr(last, name) for name in ("accuracy", "low", "high")
    }
    return {
        "images": len(rows),
        "steps": [asdict(step) for step in steps],
        "worst": worst,
        "complete": not any(step.out_of_time for step in steps),
        "largest_share": max(usage, default=None),
    }


def with_further(
    table: pa.Table, attack: str, tier: ThreatTier, predictions: Mapping[str, int], cascade: bool
) -> pa.Table:
    """The verdict table with one more attack on some of the images.

    Args:
        table: of `VERDICTS_SCHEMA`.
        attack: name of the attack.
        tier: tier of the attack.
        predictions: by id, the deployed pipeline's class of the attacked image.
        cascade: whether images that are already misclassified are left out.
    """
    rows = table.to_pylist()
    alive = set(survivors([row["label"] for row in rows], [row["verdicts"] for row in rows]))
    for number, row in enumerate(rows):
        if row["id"] in predictions and (number in alive or not cascade):
            further = {"attack": attack, "tier": str(tier), "prediction": predictions[row["id"]], "rejected": False}
            row["verdicts"].append({**further, "status": "ok"})
    return pa.Table.from_pylist(rows, schema=VERDICTS_SCHEMA)


def fixed_ids(ids: Sequence[str], count: int | None) -> list[str]:
    """The `count` ids with the lowest SHA-256, or all ids; independent of the order of the ids."""
    ordered = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())
    return ordered if count is None else ordered[:count]


def survivors(labels: Sequence[int], verdicts: Sequence[Sequence[dict[str, Any]]]) -> list[int]:
    """Positions of images with right verdicts only; verdicts that are out of time do not count."""
    return [
        position
        for position, (label, row) in enumerate(zip(labels, verdicts, strict=True))
        if all(_held(verdict, label) for verdict in row if verdict["status"] != OUT_OF_TIME)
    ]


def _held(verdict: Mapping[str, Any], label: int) -> bool:
    attacked = verdict["tier"] != ThreatTier.CLEAN
    return bool(right(verdict["prediction"], label, verdict["rejected"], attacked=attacked))


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
    """Require that the attacks on every image are a subsequence of the cascade."""
    positions = {pair: number for number, pair in enumerate(order.items())}
    for row in rows:
        attacks = [(verdict["attack"], verdict["tier"]) for verdict in row["verdicts"]]
        found = [positions.get(pair, -1) for pair in attacks]
        if found != sorted(set(found)) or -1 in found:
            raise InputError(
                "attacks in another order", item=f"{item} {row['id']}", expected=list(order.items()), got=attacks
            )
