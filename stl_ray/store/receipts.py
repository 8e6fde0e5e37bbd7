"""The record of a finished shard: its receipt, and its quarantined rows."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

QUARANTINE_SCHEMA = pa.schema(
    [("id", pa.string()), ("reason", pa.string()), ("message", pa.string()), ("image", pa.binary())]
)


@dataclass(frozen=True)
class QuarantinedRow:
    """One image set aside: its id, the reason (a `QuarantineReason`), a message, and its bytes where they exist."""

    id: str
    reason: str
    message: str
    image: bytes | None = None


@dataclass(frozen=True)
class Receipt:
    """The record that one shard is done; JSON in done/."""

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
