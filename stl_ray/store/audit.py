"""The audit of a finished run, recounted from its bytes."""

import hashlib
from collections import Counter
from typing import Any

from stl_ray.errors import AuditError, StlRayError
from stl_ray.store.datasets import Dataset
from stl_ray.store.filesystem import Storage
from stl_ray.store.runs import MANIFEST, Run
from stl_ray.store.shards import sha256


def verify(folder: str) -> dict[str, Any]:
    """Recount a dataset: every part's sha256 and rows, one schema, every id once, every planned row accounted for.

    Args:
        folder: path or URI of a run.

    Returns:
        rows, quarantined, parts and digest, as recounted.

    Raises:
        IncompleteRunError: if there is no manifest.
        AuditError: if anything disagrees; the message lists all that does.
    """
    dataset = Dataset.open(folder)
    problems: list[str] = []
    ids: Counter[bytes] = Counter()
    rows = 0
    schema = None
    for part in dataset.parts:
        try:
            table = dataset.read(part)
        except StlRayError as error:
            problems.append(str(error))
            continue
        rows += table.num_rows
        if table.num_rows != part["rows"]:
            problems.append(f"{part['file']}: expected {part['rows']} rows; got {table.num_rows}")
        schema = schema or table.schema
        if not table.schema.equals(schema, check_metadata=True):
            problems.append(f"{part['file']}: another schema than the first part")
        for identifier in table.column("id").to_pylist():
            key = hashlib.blake2b(identifier.encode(), digest_size=16).digest()
            ids[key] += 1
            if ids[key] == 2:
                problems.append(f"{part['file']}: id {identifier!r} comes twice")
    for file in dataset.manifest["quarantine"]:
        try:
            if sha256(dataset.storage.read(file["file"])) != file["sha256"]:
                problems.append(f"{file['file']}: altered")
        except StlRayError as error:
            problems.append(str(error))
    quarantined = int(dataset.manifest["quarantined"])
    planned = sum(shard.rows for shard in Run(dataset.storage, "", "").plan())
    if rows + quarantined != planned:
        problems.append(f"expected {planned} planned rows; got {rows} and {quarantined} quarantined")
    if rows != dataset.rows:
        problems.append(f"expected {dataset.rows} rows by the manifest; got {rows}")
    if problems:
        raise AuditError("the audit failed: " + "; ".join(problems[:20]), item=dataset.storage.root)
    return {"rows": rows, "quarantined": quarantined, "parts": len(dataset.parts), "digest": dataset.digest}


def finished_below(root: Storage) -> list[str]:
    """The folders, relative to a root, of the finished datasets at or below it; "" for the root itself."""
    return sorted(file.path.rpartition("/")[0] for file in root.walk() if file.path.rpartition("/")[2] == MANIFEST)
