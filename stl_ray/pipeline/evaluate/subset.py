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

    A few full shards instead of one for each part, because a tile of a network that is not full costs what a full one does.
    """
    parts = [table.column("id").to_pylist() for table in dataset.columns("id")]
    wanted = set(fixed_ids([name for names in parts for name in names], count))
    places = [(number, name) for number, names in enumerate(parts) for name in names if name in wanted]
    shards: list[PlannedShard] = []
    for start in range(0, len(places), size):
        pieces: dict[int, list[str]] = {}
        for number, name in places[start : start + size]:
            pieces.setdefault(number, []).append(name)
        source = {"pieces": [{"part": number, "ids": names} for number, names in pieces.items()]}
        digest = hashlib.sha256(
            "\n".join(part for n, names in pieces.items() for part in (dataset.parts[n]["sha256"], *names)).encode()
        ).hexdigest()
        rows = sum(map(len, pieces.values()))
        shards.append(PlannedShard(number=len(shards), source=source, rows=rows, digest=digest))
    return shards


def rows_of(dataset: Dataset, source: dict[str, Any]) -> pa.Table:
    """The chosen rows, in the order of the plan.

    Raises:
        AuditError: if the dataset lacks one of them.
    """
    return pa.concat_tables(
        _taken(dataset.read(dataset.parts[piece["part"]]), piece["ids"], dataset.storage.root)
        for piece in source["pieces"]
    )


def rows_if_any(dataset: Dataset, source: dict[str, Any], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By id, the given columns of those chosen rows that a dataset made from the same shards has."""
    found: dict[str, dict[str, Any]] = {}
    for piece in source["pieces"]:
        wanted = set(piece["ids"])
        table = dataset.columns_of(dataset.parts[piece["part"]], "id", *columns)
        found |= {row["id"]: row for row in table.to_pylist() if row["id"] in wanted}
    return found


def _taken(table: pa.Table, ids: Sequence[str], item: str) -> pa.Table:
    places = {name: place for place, name in enumerate(table.column("id").to_pylist())}
    missing = [name for name in ids if name not in places]
    if missing:
        raise AuditError("a chosen image is not in its part", item=item, expected=missing[0])
    return table.take([places[name] for name in ids])
