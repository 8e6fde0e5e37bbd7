"""The audit of a run, recounted from its bytes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pyarrow as pa

from stl_ray.errors import AuditError, StlRayError
from stl_ray.store.datasets import Dataset
from stl_ray.store.filesystem import Storage
from stl_ray.store.runs import MANIFEST, RUN, Run
from stl_ray.store.shards import ids_and_schema, ids_of, sha256, table_from_bytes
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
    if storage.exists(RUN) and not storage.exists(MANIFEST):
        Run(storage, "", "").complete()
    dataset = Dataset.open(folder)
    count = _Count()
    with ThreadPoolExecutor(_READERS) as pool:
        parts = pool.map(lambda part: _recount(dataset, part), dataset.parts)
        twice = doubled(count.add(part, lambda rows: advance(rows, dataset.rows)) for part in parts)
    rows, problems = count.rows, count.problems
    problems += _where(dataset, twice)
    quarantined = 0
    for file in dataset.manifest["quarantine"]:
        try:
            data = dataset.storage.read(file["file"])
            if sha256(data) != file["sha256"]:
                problems.append(f"{file['file']}: altered")
            quarantined += table_from_bytes(data, item=dataset.storage.at(file["file"])).num_rows
        except StlRayError as error:
            problems.append(str(error))
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
    """The parts and quarantine files that no receipt or manifest names, left by dead or late writers."""
    receipts = Run(storage, "", "").receipts().values()
    named = {receipt.part for receipt in receipts} | {receipt.quarantine for receipt in receipts}
    if storage.exists(MANIFEST):
        # Where records are not created once for certain (gs://), a late receipt may name another part than the manifest.
        manifest = storage.read_json(MANIFEST)
        named |= {entry["file"] for entry in (*manifest["parts"], *manifest["quarantine"])}
    files = (f"{folder}/{name}" for folder in ("parts", "quarantine") for name in storage.names(folder))
    return [file for file in files if file not in named]


def runs_below(root: Storage) -> list[str]:
    """The folders, relative to a root, of the runs at or below it, finished or not; "" for the root itself."""
    names = {MANIFEST, RUN}
    folders = {file.path.rpartition("/")[0] for file in root.walk() if file.path.rpartition("/")[2] in names}
    return sorted(folders)


@dataclass(frozen=True)
class _Part:
    """The recount of one part."""

    file: str
    rows: int
    schema: pa.Schema | None
    keys: Keys
    problems: list[str]


@dataclass
class _Count:
    """The recount of all parts so far; the hashes of the ids are left to the caller."""

    rows: int = 0
    schema: pa.Schema | None = None
    problems: list[str] = field(default_factory=list)

    def add(self, part: _Part, advance: Callable[[int], object]) -> Keys:
        """Count one more part; returns the hashes of its ids."""
        advance(part.rows)
        self.rows += part.rows
        self.problems += part.problems
        self.schema = part.schema if self.schema is None else self.schema
        if part.schema is not None and not part.schema.equals(self.schema, check_metadata=True):
            self.problems.append(f"{part.file}: another schema than the first part")
        return part.keys


def _recount(dataset: Dataset, part: dict[str, Any]) -> _Part:
    file = part["file"]
    try:
        # Only the ids are decoded; the digest proves that the images are unaltered.
        ids, schema = ids_and_schema(BytesIO(dataset.bytes_of(part)), item=dataset.storage.at(file))
    except StlRayError as error:
        return _Part(file, 0, None, keys_of([]), [str(error)])
    problems = []
    if len(ids) != part["rows"]:
        problems.append(f"{file}: expected {part['rows']} rows; got {len(ids)}")
    return _Part(file, len(ids), schema, keys_of(ids), problems)


def _where(dataset: Dataset, twice: set[bytes]) -> list[str]:
    """Problems that name the duplicate ids; the parts are read again only if there are any."""
    problems = []
    for part in dataset.parts if twice else ():
        duplicate = first_of(ids_of(dataset.storage, part["file"]), twice)
        if duplicate is not None:
            problems.append(f"{part['file']}: id {duplicate!r} comes twice")
    return problems
