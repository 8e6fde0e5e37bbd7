"""The run protocol: a run is a folder that can be killed at any moment and continued.

    run.json                         identity (whatever can change a byte) and environment; created once, after the plan
    plan.parquet                     shard number, source, expected rows, source digest
    parts/part-00042-<sha12>.parquet named by content
    done/00042.json                  the receipt, created once, after the part that it names
    quarantine/00042-<sha12>.parquet id, reason, message, original bytes
    attempts/00042.<n>               who took the shard, under which driver
    MANIFEST.json                    written last; freezes the receipts; readers use only this

The first receipt of a shard wins; a part that no receipt names is ignored, so late and doubled writers are harmless.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from stl_ray.errors import IncompleteRunError, QuarantineLimitError, StorageError
from stl_ray.store.filesystem import Storage, canonical_json, to_json
from stl_ray.store.identity import require_same
from stl_ray.store.shards import ids_of, sha256, table_from_bytes, table_to_bytes

MANIFEST = "MANIFEST.json"
VERSION = 1

QUARANTINE_SCHEMA = pa.schema(
    [("id", pa.string()), ("reason", pa.string()), ("message", pa.string()), ("image", pa.binary())]
)
_PLAN_SCHEMA = pa.schema(
    [("number", pa.int32()), ("source", pa.string()), ("rows", pa.int64()), ("digest", pa.string())]
)


@dataclass(frozen=True)
class PlannedShard:
    """One unit of work: a piece of the source that becomes one part.

    Args:
        number: position in the plan and in the dataset.
        source: JSON-able; what the stage needs to find the rows.
        rows: rows that the source holds; each comes out or is quarantined.
        digest: of the source's content or name.
    """

    number: int
    source: dict[str, Any]
    rows: int
    digest: str


@dataclass(frozen=True)
class QuarantinedRow:
    """One image set aside: its id, the reason (a `QuarantineReason`), a message, and its bytes where they exist."""

    id: str
    reason: str
    message: str
    image: bytes | None = None


@dataclass(frozen=True)
class Receipt:
    """What became of one shard; JSON in done/."""

    shard: int
    part: str
    rows_in: int
    rows: int
    sha256: str
    bytes: int
    quarantined: int
    reasons: dict[str, int]
    quarantine: str | None
    quarantine_sha256: str | None
    seconds: float
    attempt: int
    environment: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run in a storage folder. Workers publish shards to it; the driver creates and finishes it."""

    storage: Storage
    stage: str
    name: str

    def start(
        self, plan: Sequence[PlannedShard], *, identity: Mapping[str, Any], environment: Mapping[str, Any]
    ) -> None:
        """Create the run, or check that the one in the folder has the same identity and plan.

        Raises:
            RunIdentityError: if the folder holds a run of another identity; the difference is shown.
        """
        full = {"stage": self.stage, "name": self.name, **identity, "plan_digest": _plan_digest(plan)}
        record = {"version": VERSION, "identity": full, "environment": dict(environment)}
        if not self.storage.exists("run.json"):
            rows = [{**asdict(shard), "source": json.dumps(shard.source, sort_keys=True)} for shard in plan]
            self.storage.write("plan.parquet", table_to_bytes(pa.Table.from_pylist(rows, schema=_PLAN_SCHEMA)))
            if self.storage.create("run.json", to_json(record)):
                return
        require_same(self.storage.read_json("run.json")["identity"], full, self.storage.root)

    def require(self, identity: Mapping[str, Any]) -> None:
        """Check that the run was made with these entries of its identity, whatever the others are.

        Raises:
            IncompleteRunError: if there is no run.
            RunIdentityError: with the entries that differ.
        """
        if not self.storage.exists("run.json"):
            raise IncompleteRunError(f"there is no run; run `stl-ray {self.stage}` first", item=self.storage.root)
        found = self.storage.read_json("run.json")["identity"]
        require_same({key: found.get(key) for key in identity}, identity, self.storage.root)

    def plan(self) -> list[PlannedShard]:
        """The planned shards, in order."""
        table = table_from_bytes(self.storage.read("plan.parquet"), item=self.storage.at("plan.parquet"))
        plan = [PlannedShard(**{**row, "source": json.loads(row["source"])}) for row in table.to_pylist()]
        digest = self.storage.read_json("run.json")["identity"]["plan_digest"]
        if _plan_digest(plan) != digest:
            raise StorageError(
                "the plan is not that of run.json: another driver started here at the same time; remove the folder",
                item=self.storage.root, expected=digest, got=_plan_digest(plan),
            )  # fmt: skip
        return plan

    def receipts(self) -> dict[int, Receipt]:
        """The receipts so far, by shard number."""
        found = (Receipt(**self.storage.read_json(f"done/{name}")) for name in self.storage.names("done"))
        return {receipt.shard: receipt for receipt in found}

    def pending(self) -> list[PlannedShard]:
        """The planned shards that have no receipt yet."""
        done = {int(name.removesuffix(".json")) for name in self.storage.names("done")}
        return [shard for shard in self.plan() if shard.number not in done]

    def attempt(self, shard: int, driver: str) -> int:
        """Record that a worker takes a shard; its number (from 1) among the attempts under the same driver."""
        everyone = [name for name in self.storage.names("attempts") if name.startswith(f"{shard:05d}.")]
        mine = sum(1 for name in everyone if self.storage.read(f"attempts/{name}").decode() == driver)
        number = len(everyone)
        while not self.storage.create(f"attempts/{shard:05d}.{number}", driver.encode()):
            number += 1
        return mine + 1

    def publish(
        self,
        shard: PlannedShard,
        table: pa.Table,
        quarantine: Sequence[QuarantinedRow],
        *,
        seconds: float,
        attempt: int,
        environment: Mapping[str, Any],
    ) -> Receipt:
        """Write a shard's part and quarantine, then its receipt; the receipt that counts (perhaps another's).

        Raises:
            StorageError: if the storage refuses, or rows are missing or doubled.
        """
        if table.num_rows + len(quarantine) != shard.rows:
            raise StorageError(
                "rows lost or doubled", item=f"{self.name} shard {shard.number}", expected=f"{shard.rows} rows",
                got=f"{table.num_rows} out and {len(quarantine)} quarantined",
            )  # fmt: skip
        if table.column("id").null_count:
            raise StorageError("a row has no id", item=f"{self.name} shard {shard.number}", expected="text")
        data = table_to_bytes(table)
        part = f"parts/part-{shard.number:05d}-{sha256(data)[:12]}.parquet"
        self.storage.write(part, data)
        quarantine_part, quarantine_digest = None, None
        if quarantine:
            rows = [asdict(row) for row in quarantine]
            quarantine_data = table_to_bytes(pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA))
            quarantine_digest = sha256(quarantine_data)
            quarantine_part = f"quarantine/{shard.number:05d}-{quarantine_digest[:12]}.parquet"
            self.storage.write(quarantine_part, quarantine_data)
        receipt = Receipt(
            shard=shard.number,
            part=part,
            rows_in=shard.rows,
            rows=table.num_rows,
            sha256=sha256(data),
            bytes=len(data),
            quarantined=len(quarantine),
            reasons=dict(sorted(Counter(str(row.reason) for row in quarantine).items())),
            quarantine=quarantine_part,
            quarantine_sha256=quarantine_digest,
            seconds=round(seconds, 3),
            attempt=attempt,
            environment=dict(environment),
        )
        if self.storage.create(f"done/{shard.number:05d}.json", to_json(asdict(receipt))):
            return receipt
        return Receipt(**self.storage.read_json(f"done/{shard.number:05d}.json"))

    def finish(self, *, max_quarantined: float) -> dict[str, Any]:
        """Check that every planned shard is done and the quarantine within its limit, then publish the manifest.

        Args:
            max_quarantined: largest share of all rows that may be quarantined.

        Returns:
            The manifest.

        Raises:
            IncompleteRunError: if shards have no receipt.
            QuarantineLimitError: if too many rows were quarantined.
            StorageError: if an id comes twice.
        """
        if self.storage.exists(MANIFEST):
            manifest = dict(self.storage.read_json(MANIFEST))
            self._check_quarantine(manifest["rows"], manifest["quarantined"], manifest["reasons"], max_quarantined)
            return manifest
        plan, receipts = self.plan(), self.receipts()
        missing = [shard.number for shard in plan if shard.number not in receipts]
        if missing:
            raise IncompleteRunError(
                "shards are missing; run the same job again to continue", item=self.storage.root,
                expected=f"{len(plan)} receipts", got=f"{len(plan) - len(missing)}; first missing: {missing[:5]}",
            )  # fmt: skip
        done = [receipts[shard.number] for shard in plan]
        rows, quarantined = sum(r.rows for r in done), sum(r.quarantined for r in done)
        reasons: Counter[str] = Counter()
        for receipt in done:
            reasons.update(receipt.reasons)
        self._check_quarantine(rows, quarantined, reasons, max_quarantined)
        self._refuse_doubled_ids(done)
        parts = [{"file": r.part, "rows": r.rows, "sha256": r.sha256, "bytes": r.bytes} for r in done]
        manifest = {
            "version": VERSION,
            "stage": self.stage,
            "name": self.name,
            "rows": rows,
            "quarantined": quarantined,
            "reasons": dict(sorted(reasons.items())),
            "digest": sha256(canonical_json([[part["rows"], part["sha256"]] for part in parts])),
            "identity_digest": sha256(canonical_json(self.storage.read_json("run.json")["identity"])),
            "parts": parts,
            "quarantine": [{"file": r.quarantine, "sha256": r.quarantine_sha256} for r in done if r.quarantine],
        }
        self.storage.create(MANIFEST, to_json(manifest))
        return dict(self.storage.read_json(MANIFEST))

    def _check_quarantine(self, rows: int, quarantined: int, reasons: Mapping[str, int], limit: float) -> None:
        if quarantined > limit * (rows + quarantined) or rows == 0:
            raise QuarantineLimitError(
                f"too many images were set aside ({dict(reasons)}); see quarantine/, mend them or raise max_quarantined",
                item=self.storage.root, expected=f"at most {limit:.2%} of {rows + quarantined}", got=quarantined,
            )  # fmt: skip

    def _refuse_doubled_ids(self, receipts: Sequence[Receipt]) -> None:
        seen: set[bytes] = set()
        for receipt in receipts:
            for identifier in ids_of(self.storage, receipt.part):
                key = hashlib.blake2b(identifier.encode(), digest_size=16).digest()
                if key in seen:
                    raise StorageError(
                        "an id comes twice in the dataset", item=self.storage.at(receipt.part),
                        expected="unique ids", got=identifier,
                    )  # fmt: skip
                seen.add(key)


def _plan_digest(plan: Sequence[PlannedShard]) -> str:
    return sha256(canonical_json([asdict(shard) for shard in plan]))
