"""What the checks look at: how the deployed pipeline answered every probe on every image, and what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stl_ray.errors import InputError

PROBES_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("label", pa.int64()),
        # The class that a probe ended at. A probe is an attack, or a way of asking the pipeline about the clean image.
        pa.field("answers", pa.list_(pa.struct([pa.field("probe", pa.string()), pa.field("prediction", pa.int64())]))),
        pa.field("measures", pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.float64())]))),
    ]
)
"""One row per image for one defense."""

TOLERANCE = 0.01
"""Share of the images that may speak against an order of strengths before it is said to be violated."""


@dataclass(frozen=True)
class Probes:
    """The table as arrays over N images; a measure of some images alone is NaN on the others."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    answers: dict[str, NDArray[np.int64]]
    measures: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, table: pa.Table, item: str) -> "Probes":
        """The arrays, in the order of the ids.

        Raises:
            InputError: no row, an id twice, or images that were probed in different ways.
        """
        rows = table.cast(PROBES_SCHEMA).sort_by("id").to_pylist()
        if not rows:
            raise InputError("no probes", item=item, expected="at least one row")
        ids = tuple(row["id"] for row in rows)
        if len(set(ids)) < len(ids):
            raise InputError("an id comes twice", item=item)
        answers = _columns([{entry["probe"]: entry["prediction"] for entry in row["answers"]} for row in rows], item)
        measures = _columns([{entry["name"]: entry["value"] for entry in row["measures"]} for row in rows], item)
        return cls(
            ids,
            np.array([row["label"] for row in rows], dtype=np.int64),
            {name: np.array(values, dtype=np.int64) for name, values in answers.items()},
            {name: np.array(values, dtype=np.float64) for name, values in measures.items()},
        )

    def __len__(self) -> int:
        return len(self.ids)

    def right(self, probe: str) -> NDArray[np.bool_]:
        """(N,): whether the pipeline was right at the end of the probe."""
        right: NDArray[np.bool_] = self.answers[probe] == self.labels
        return right

    def named(self, prefix: str) -> list[str]:
        """The probes whose names begin so, in the order in which they were made."""
        return [name for name in self.answers if name.startswith(prefix)]

    def measured(self, name: str) -> NDArray[np.float64]:
        """The measure where it was taken."""
        values = self.measures.get(name, np.array([]))
        return values[~np.isnan(values)]

    def fall_to_weaker(self, weaker: str, stronger: str) -> int:
        """Images that fell to the weaker attack and not to the stronger one."""
        return int((~self.right(weaker) & self.right(stronger)).sum())


def _columns(rows: Sequence[dict[str, Any]], item: str) -> dict[str, list[Any]]:
    names = list(rows[0])
    for row in rows:
        if list(row) != names:
            raise InputError("images probed in different ways", item=item, expected=names, got=list(row))
    return {name: [row[name] for row in rows] for name in names}
