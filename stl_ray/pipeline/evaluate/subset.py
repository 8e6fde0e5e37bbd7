"""Some images of a finished dataset, the same for every defense, gathered from its parts into shards of their own."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from stl_ray.errors import AuditError
from stl_ray.evaluation import fixed_ids
from stl_ray.store import Dataset, PlannedShard


def plan_subset(dataset: Dataset, count: int | None, size: int) -> list[PlannedShard]:
    """Shards of at most `size` images, of the `count` whose ids hash lowest; in the order of the dataset.

    A few full shards instead of one for each part, because a network's tile costs the same whether full or not.
    """
    ids_by_part = [table.column("id").to_pylist() for table in dataset.columns("id")]
    wanted = set(fixed_ids([identifier for ids in ids_by_part for identifier in ids], count))
    chosen = [
        (number, identifier) for number, ids in enumerate(ids_by_part) for identifier in ids if identifier in wanted
    ]
    shards: list[PlannedShard] = []
    for start in range(0, len(chosen), size):
        pieces: dict[int, list[str]] = {}
        for number, identifier in chosen[start : start + size]:
            pieces.setdefault(number, []).append(identifier)
        source = {"pieces": [{"part": number, "ids": ids} for number, ids in pieces.items()]}
        digest = hashlib.sha256(
            "\n".join(part for n, ids in pieces.items() for part in (dataset.parts[n]["sha256"], *ids)).encode()
        ).hexdigest()
        rows = sum(map(len, pieces.values()))
        shards.append(PlannedShard(number=len(shards), source=source, rows=rows, digest=digest))
    return shards


def rows_of(dataset: Dataset, source: dict[str, Any]) -> pa.Table:
    """The chosen rows, in the order of the plan.

    Raises:
        AuditError: if the dataset lacks one of them.
    """
    rows = rows_in(dataset, source)
    wanted = [identifier for piece in source["pieces"] for identifier in piece["ids"]]
    missing = sorted(set(wanted) - set(rows.column("id").to_pylist()))
    if missing:
        raise AuditError("a chosen image is not in its part", item=dataset.storage.root, expected=missing[0])
    return rows


def rows_in(dataset: Dataset, source: dict[str, Any]) -> pa.Table:
    """The chosen rows that a dataset made from the same shards has, in the order of the plan: a run sets images aside."""
    return pa.concat_tables(
        _taken(dataset.read(dataset.parts[piece["part"]]), piece["ids"]) for piece in source["pieces"]
    )


def rows_if_any(dataset: Dataset, source: dict[str, Any], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By id, the given columns of the rows of `rows_in`; nothing else is read."""
    rows: dict[str, dict[str, Any]] = {}
    for piece in source["pieces"]:
        wanted = set(piece["ids"])
        table = dataset.columns_of(dataset.parts[piece["part"]], "id", *columns)
        rows |= {row["id"]: row for row in table.to_pylist() if row["id"] in wanted}
    return rows


def _taken(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    row_of = {identifier: row for row, identifier in enumerate(table.column("id").to_pylist())}
    return table.take(pa.array([row_of[identifier] for identifier in ids if identifier in row_of], pa.int64()))
