"""The run protocol: a run is a folder that can be killed at any moment and continued.

    run.json                         identity (whatever can change a byte) and environment; created once, after the plan
    plan.parquet                     shard number, source, expected rows, source digest
    parts/part-00042-<sha12>.parquet named by content
    done/00042.json                  the receipt, created once, after the part that it names
    quarantine/00042-<sha12>.parquet id, reason, message, original bytes
    attempts/00042.<n>               which worker took the shard, under which driver
    MANIFEST.json                    written last; freezes the receipts; readers use only this

The first receipt of a shard wins; a part that no receipt names is ignored, so late and doubled writers are harmless.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from stl_ray.errors import IncompleteRunError, QuarantineLimitError, StorageError
from stl_ray.store import plan as plans
from stl_ray.store.filesystem import Storage, canonical_json, to_json
from stl_ray.store.identity import require_same
from stl_ray.store.plan import Plan, PlannedShard, plan_file
from stl_ray.store.receipts import QUARANTINE_SCHEMA, QuarantinedRow, Receipt
from stl_ray.store.shards import ids_of, sha256, table_to_bytes
from stl_ray.store.unique import doubled, first_of, keys_of

RUN, MANIFEST = "run.json", "MANIFEST.json"
VERSION = 2

# Receipts and ids are read side by side: in an object store each costs a round trip.
READERS = 16


@dataclass(frozen=True)
class Draft:
    """A run before it is created; made by `Run.draft`.

    Attributes:
        run: its folder.
        file: the bytes of its plan.
        identity: its entries that are known yet.
        stored: the identity of the run in the folder; None: there is none.
    """

    run: "Run"
    file: bytes
    identity: dict[str, Any]
    stored: dict[str, Any] | None

    def start(self, made: Mapping[str, Any], *, environment: Mapping[str, Any]) -> None:
        """Create the run, or check that the one in the folder has this identity.

        Args:
            made: the rest of the identity.
            environment: recorded beside it.

        Raises:
            RunIdentityError: if the folder holds a run of another identity; the difference is shown.
        """
        storage, full = self.run.storage, {**self.identity, **made}
        if not storage.exists(RUN):
            storage.write(plans.FILE, self.file)
            record = {"version": VERSION, "identity": full, "environment": dict(environment)}
            if storage.create(RUN, to_json(record)):
                return
        require_same(storage.read_json(RUN)["identity"], full, storage.root)


@dataclass(frozen=True)
class Run:
    """A run in a storage folder. Workers publish shards to it; the driver creates and finishes it."""

    storage: Storage
    stage: str
    name: str

    @classmethod
    def open(cls, root: str, folder: str) -> "Run":
        """The run in a folder of an experiment's root (see store.layout), finished, begun or not there yet."""
        stage, _, name = folder.partition("/")
        return cls(Storage.open(root).below(folder), stage, name)

    def start(
        self, plan: Iterable[PlannedShard], *, identity: Mapping[str, Any], environment: Mapping[str, Any]
    ) -> None:
        """Create the run, or check that the one in the folder has the same identity and plan.

        Raises:
            RunIdentityError: if the folder holds a run of another identity; the difference is shown.
        """
        self.draft(plan, identity=identity).start({}, environment=environment)

    def draft(
        self,
        plan: Iterable[PlannedShard],
        *,
        identity: Mapping[str, Any],
        made: Collection[str] = (),
        notes: Callable[[], Mapping[str, Any]] = dict,
    ) -> "Draft":
        """A draft of the run, checked against the one in the folder where there is one; nothing is written.

        Args:
            plan: all its shards.
            identity: the entries of its identity that are known yet.
            made: names of the entries of the identity that are not known yet.
            notes: see `plan_file`; those of the run's first start stay.

        Raises:
            RunIdentityError: if the folder holds a run of another identity; the difference is shown.
        """
        file, digest = plan_file(plan, notes)
        full = {"stage": self.stage, "name": self.name, **identity, "plan_digest": digest}
        stored = self.storage.read_json(RUN)["identity"] if self.storage.exists(RUN) else None
        if stored is not None:
            require_same({key: value for key, value in stored.items() if key not in made}, full, self.storage.root)
        return Draft(self, file, full, stored)

    @property
    def identity(self) -> dict[str, Any]:
        """The identity of the run in the folder.

        Raises:
            StorageError: there is none.
        """
        return dict(self.storage.read_json(RUN)["identity"])

    def require(self, identity: Mapping[str, Any]) -> None:
        """Check that the run was made with these entries of its identity, whatever the others are.

        Raises:
            IncompleteRunError: if there is no run.
            RunIdentityError: with the entries that differ.
        """
        if not self.storage.exists(RUN):
            raise IncompleteRunError(f"there is no run; run `stl-ray {self.stage}` first", item=self.storage.root)
        stored = self.identity
        require_same({key: stored.get(key) for key in identity}, identity, self.storage.root)

    def plan(self) -> Plan:
        """The plan.

        Raises:
            StorageError: if it is missing, damaged, or not the one of run.json.
        """
        plan = Plan.of(self.storage)
        digest = self.identity["plan_digest"]
        if plan.digest != digest:
            raise StorageError(
                "the plan is not that of run.json: another driver started here at the same time; remove the folder",
                item=self.storage.root, expected=digest, got=plan.digest,
            )  # fmt: skip
        return plan

    def done(self) -> set[int]:
        """The numbers of the shards that have a receipt."""
        return {int(name.removesuffix(".json")) for name in self.storage.names("done")}

    def pending(self) -> dict[int, int]:
        """The rows of every planned shard that has no receipt yet, by its number."""
        done = self.done()
        return {number: int(rows) for number, rows in enumerate(self.plan().rows) if number not in done}

    def receipts(self) -> dict[int, Receipt]:
        """The receipts so far, by shard number."""
        with ThreadPoolExecutor(READERS) as pool:
            receipts = pool.map(self.receipt, sorted(self.done()))
        return {receipt.shard: receipt for receipt in receipts}

    def receipt(self, shard: int) -> Receipt:
        """The receipt of a shard.

        Raises:
            StorageError: if it has none.
        """
        return Receipt(**self.storage.read_json(f"done/{shard:05d}.json"))

    def has(self, shard: int) -> bool:
        """Whether a shard has its receipt."""
        return self.storage.exists(f"done/{shard:05d}.json")

    def attempt(self, shard: int, worker: Mapping[str, str]) -> None:
        """Record that a worker takes a shard.

        Args:
            shard: its number.
            worker: who takes it: JSON-able, with the `driver` that it works for.
        """
        number = 0
        while not self.storage.create(f"attempts/{shard:05d}.{number}", to_json(dict(worker))):
            number += 1

    def attempts(self, shard: int, driver: str) -> list[dict[str, str]]:
        """The workers of a driver that took a shard so far, in order."""
        records: list[dict[str, str]] = []
        while self.storage.exists(path := f"attempts/{shard:05d}.{len(records)}"):
            records.append(self.storage.read_json(path))
        return [record for record in records if record["driver"] == driver]

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
        """Write a shard's part and quarantine, then its receipt; returns the receipt that counts (perhaps another's).

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
        return self.receipt(shard.number)

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
        done = self.complete()
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
            "identity_digest": sha256(canonical_json(self.identity)),
            "parts": parts,
            "quarantine": [{"file": r.quarantine, "sha256": r.quarantine_sha256} for r in done if r.quarantine],
        }
        self.storage.create(MANIFEST, to_json(manifest))
        return dict(self.storage.read_json(MANIFEST))

    def complete(self) -> list[Receipt]:
        """The receipts of all planned shards, in order.

        Raises:
            IncompleteRunError: if shards have no receipt.
            StorageError: if a receipt is not of as many rows as were planned.
        """
        planned, receipts = self.plan().rows, self.receipts()
        missing = [number for number in range(len(planned)) if number not in receipts]
        if missing:
            raise IncompleteRunError(
                "shards are missing; run the same job again to continue", item=self.storage.root,
                expected=f"{len(planned)} receipts", got=f"{len(planned) - len(missing)}; first missing: {missing[:5]}",
            )  # fmt: skip
        for number, rows in enumerate(planned):
            receipt = receipts[number]
            if receipt.rows + receipt.quarantined != rows:
                raise StorageError(
                    "rows lost or doubled", item=self.storage.at(f"done/{number:05d}.json"), expected=f"{rows} rows",
                    got=f"{receipt.rows} out and {receipt.quarantined} quarantined",
                )  # fmt: skip
        return [receipts[number] for number in range(len(planned))]

    def _check_quarantine(self, rows: int, quarantined: int, reasons: Mapping[str, int], limit: float) -> None:
        if quarantined > limit * (rows + quarantined) or rows == 0:
            raise QuarantineLimitError(
                f"too many images were set aside ({dict(reasons)}); see quarantine/, mend them or raise max_quarantined",
                item=self.storage.root, expected=f"at most {limit:.2%} of {rows + quarantined}", got=quarantined,
            )  # fmt: skip

    def _refuse_doubled_ids(self, receipts: Sequence[Receipt]) -> None:
        with ThreadPoolExecutor(READERS) as pool:
            twice = doubled(pool.map(lambda receipt: keys_of(ids_of(self.storage, receipt.part)), receipts))
        for receipt in receipts if twice else ():
            if name := first_of(ids_of(self.storage, receipt.part), twice):
                raise StorageError(
                    "an id comes twice in the dataset", item=self.storage.at(receipt.part), expected="unique ids",
                    got=name,
                )  # fmt: skip
