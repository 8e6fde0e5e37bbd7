"""The audit of a run, recounted from its bytes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stl_ray.errors import AuditError, StlRayError
from stl_ray.store.datasets import Dataset
from stl_ray.store.filesystem import Storage
from stl_ray.store.runs import MANIFEST, Run
from stl_ray.store.shards import sha256, table_from_bytes
from stl_ray.store.unique import Keys, doubled, first_of, keys_of

# Whole parts in memory at once.
_READERS = 4
_MOST_PROBLEMS = 20


def verify(folder: str, advance: Callable[[int, int], object] = lambda rows, total: None) -> dict[str, Any]:
    """Recount a dataset: every part's sha256 and rows, one schema, every id once, every planned row accounted for.

    Args:
        folder: path or URI of a run.
        advance: called with the rows of every part that was recounted, and those of the whole dataset.

    Returns:
        rows, quarantined, parts and digest, as recounted; and orphans, the parts that no receipt names.

    Raises:
        IncompleteRunError: if it is not finished; it says which shards are missing.
        AuditError: if anything disagrees; the message lists all that does.
    """
    storage = Storage.open(folder)
    if storage.exists("run.json") and not storage.exists(MANIFEST):
        Run(storage, "", "").complete()
    dataset = Dataset.open(folder)
    problems: list[str] = []
    found = []
    with ThreadPoolExecutor(_READERS) as pool:
        for counted in pool.map(lambda part: _recount(dataset, part), dataset.parts):
            advance(counted.rows, dataset.rows)
            found.append(counted)
            problems += counted.problems
    schema = next((counted.schema for counted in found if counted.schema is not None), None)
    problems += [
        f"{counted.file}: another schema than the first part"
        for counted in found
        if counted.schema is not None and not counted.schema.equals(schema, check_metadata=True)
    ]
    problems += _doubled(dataset, [counted.keys for counted in found if counted.keys is not None])
    quarantined = 0
    for file in dataset.manifest["quarantine"]:
        try:
            data = dataset.storage.read(file["file"])
            if sha256(data) != file["sha256"]:
                problems.append(f"{file['file']}: altered")
            quarantined += table_from_bytes(data, item=dataset.storage.at(file["file"])).num_rows
        except StlRayError as error:
            problems.append(str(error))
    rows = sum(counted.rows for counted in found)
    planned = int(Run(dataset.storage, "", "").plan().rows.sum())
    if rows + quarantined != planned:
        problems.append(f"expected {planned} planned rows; got {rows} and {quarantined} quarantined")
    if (rows, quarantined) != (dataset.rows, dataset.quarantined):
        expected = f"{dataset.rows} rows and {dataset.quarantined} quarantined by the manifest"
        problems.append(f"expected {expected}; got {rows} and {quarantined}")
    if problems:
        more = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
        raise AuditError("the audit failed: " + "; ".join(problems[:_MOST_PROBLEMS]) + more, item=dataset.storage.root)
    orphans = len(orphans_of(dataset.storage))
    counts = {"rows": rows, "quarantined": quarantined, "parts": len(dataset.parts)}
    return {**counts, "digest": dataset.digest, "orphans": orphans}


def orphans_of(storage: Storage) -> list[str]:
    """The parts and quarantine files of a run that no receipt names: left by writers that died or came late."""
    receipts = Run(storage, "", "").receipts().values()
    named = {receipt.part for receipt in receipts} | {receipt.quarantine for receipt in receipts}
    files = (f"{folder}/{name}" for folder in ("parts", "quarantine") for name in storage.names(folder))
    return [file for file in files if file not in named]


def runs_below(root: Storage) -> list[str]:
    """The folders, relative to a root, of the runs at or below it, finished or not; "" for the root itself."""
    names = {MANIFEST, "run.json"}
    folders = {file.path.rpartition("/")[0] for file in root.walk() if file.path.rpartition("/")[2] in names}
    return sorted(folders)


@dataclass(frozen=True)
class _Recount:
    """What a part's bytes say."""

    file: str
    rows: int
    schema: pa.Schema | None
    keys: Keys | None
    problems: list[str]


def _recount(dataset: Dataset, part: dict[str, Any]) -> _Recount:
    try:
        table = dataset.read(part)
        keys = keys_of(table.column("id").to_pylist())
    except (StlRayError, KeyError) as error:
        return _Recount(part["file"], 0, None, None, [str(error)])
    problems = []
    if table.num_rows != part["rows"]:
        problems.append(f"{part['file']}: expected {part['rows']} rows; got {table.num_rows}")
    return _Recount(part["file"], table.num_rows, table.schema, keys, problems)


def _doubled(dataset: Dataset, keys: list[Keys]) -> list[str]:
    """The ids that come twice; only where there are any are the parts read again."""
    twice = doubled(keys)
    problems = []
    for part in dataset.parts if twice else ():
        name = first_of(dataset.read(part).column("id").to_pylist(), twice)
        if name is not None:
            problems.append(f"{part['file']}: id {name!r} comes twice")
    return problems
