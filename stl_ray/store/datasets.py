"""Reading a finished run: only its manifest says which parts belong to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stl_ray.errors import AuditError, IncompleteRunError
from stl_ray.store.filesystem import Storage
from stl_ray.store.runs import MANIFEST
from stl_ray.store.shards import columns_of, schema_of, sha256, table_from_bytes


@dataclass(frozen=True)
class Dataset:
    """A finished run: the parts that its manifest names."""

    storage: Storage
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str) -> "Dataset":
        """The dataset in a run's folder (path or URI).

        Raises:
            IncompleteRunError: if the run has no manifest yet.
        """
        storage = Storage.open(folder)
        if not storage.exists(MANIFEST):
            raise IncompleteRunError("no finished dataset here", item=storage.root, expected=f"a {MANIFEST}")
        return cls(storage, storage.read_json(MANIFEST))

    @property
    def rows(self) -> int:
        """Number of rows in all parts."""
        return int(self.manifest["rows"])

    @property
    def quarantined(self) -> int:
        """Number of rows that were set aside."""
        return int(self.manifest["quarantined"])

    @property
    def digest(self) -> str:
        """Digest over the parts' content, in order."""
        return str(self.manifest["digest"])

    @property
    def parts(self) -> list[dict[str, Any]]:
        """File, rows, sha256 and bytes of every part, in order."""
        return list(self.manifest["parts"])

    def read(self, part: dict[str, Any]) -> pa.Table:
        """The rows of a part, after its bytes were checked.

        Raises:
            AuditError: if the part's bytes are not those that the manifest names.
            StorageError: if it cannot be read.
        """
        return table_from_bytes(self.bytes_of(part), item=self.storage.at(part["file"]))

    def bytes_of(self, part: dict[str, Any]) -> bytes:
        """The bytes of a part, checked against the manifest.

        Raises:
            AuditError: if the bytes are not those that the manifest names.
            StorageError: if it cannot be read.
        """
        data = self.storage.read(part["file"])
        digest = sha256(data)
        if digest != part["sha256"]:
            raise AuditError(
                "the part was altered", item=self.storage.at(part["file"]), expected=part["sha256"], got=digest
            )
        return data

    @property
    def schema(self) -> pa.Schema:
        """The schema of the parts, from the first one's footer.

        Raises:
            StorageError: if it cannot be read.
        """
        return schema_of(self.storage, self.parts[0]["file"])

    def columns(self, *names: str) -> Iterator[pa.Table]:
        """Some columns of all parts, one table for each part.

        Raises:
            AuditError: if a part has not as many rows as the manifest says.
            StorageError: if a part cannot be read, or lacks a column.
        """
        for part in self.parts:
            yield self.columns_of(part, *names)

    def columns_of(self, part: dict[str, Any], *names: str) -> pa.Table:
        """Some columns of a part, read alone: its digest is checked only when the whole part is read.

        Raises:
            AuditError: if it has not as many rows as the manifest says.
            StorageError: if it cannot be read, or lacks a column.
        """
        table = columns_of(self.storage, part["file"], names)
        if table.num_rows != part["rows"]:
            raise AuditError(
                "the part was altered", item=self.storage.at(part["file"]), expected=f"{part['rows']} rows",
                got=table.num_rows,
            )  # fmt: skip
        return table

    def column(self, name: str) -> list[Any]:
        """One column of all parts, in order.

        Raises:
            AuditError, StorageError: as `columns`.
        """
        return [value for table in self.columns(name) for value in table.column(name).to_pylist()]

    def head(self, rows: int) -> pa.Table:
        """At most `rows` rows of the first part that has any; no rows where the dataset has none.

        Raises:
            AuditError, StorageError: as `read`.
        """
        part = next((part for part in self.parts if part["rows"]), self.parts[0])
        return self.read(part).slice(0, rows)

    def tables(self) -> Iterator[pa.Table]:
        """All parts, one after the other."""
        for part in self.parts:
            yield self.read(part)
