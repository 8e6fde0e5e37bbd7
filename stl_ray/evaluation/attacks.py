"""Summaries of adversarial sets: statuses, successes and distances."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stl_ray.attacks import AttackStatus
from stl_ray.errors import InputError

ATTACK_COLUMNS = ("status", "success", "dissimilarity", "linf")
"""Columns that `attack_summaries` reads."""


def attack_summaries(tables: Mapping[str, pa.Table]) -> dict[str, dict[str, Any]]:
    """Summary per attack set: number of images, counts by status, successes, and distances from the clean images.

    Args:
        tables: by set, rows with at least `ATTACK_COLUMNS`.

    Returns:
        By set: `images`; `statuses`, a count for every `AttackStatus`; `successes`, images that are right when clean
        and wrong when attacked; `dissimilarity` (min, mean, max of ||x' - x|| / ||x||) and `linf_max`, in [0, 1]
        pixels.

    Raises:
        InputError: if a set has no row, lacks a column, or has a null.
    """
    return {name: _summary(table, name) for name, table in tables.items()}


def _summary(table: pa.Table, item: str) -> dict[str, Any]:
    missing = [name for name in ATTACK_COLUMNS if name not in table.column_names]
    if missing or table.num_rows == 0:
        raise InputError("not an adversarial set", item=item, expected="rows of every column", got=missing or "none")
    for name in ATTACK_COLUMNS:
        if table.column(name).null_count:
            raise InputError("a measurement is missing", item=f"{item} {name}", got=f"{table.column(name).null_count}")
    dissimilarity = table.column("dissimilarity")
    return {
        "images": table.num_rows,
        "statuses": {**{status.value: 0 for status in AttackStatus}, **Counter(table.column("status").to_pylist())},
        "successes": pc.sum(table.column("success")).as_py(),
        "dissimilarity": {name: getattr(pc, name)(dissimilarity).as_py() for name in ("min", "mean", "max")},
        "linf_max": pc.max(table.column("linf")).as_py(),
    }
