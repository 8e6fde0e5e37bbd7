"""Prediction tables: one row per image for one (defense, attack set); validation and alignment."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from stl_ray.defenses import NO_VERDICT
from stl_ray.errors import InputError

PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("label", pa.int64()),
        pa.field("vanilla", pa.int64()),  # the vanilla classifier on q8(T(x)), the deployed pipeline
        pa.field("retrained", pa.int64()),  # the defense's own classifier on it; for "none" the vanilla one
        pa.field("vanilla_float", pa.int64()),  # on T(x) without the rounding to 8 bits
        pa.field("retrained_float", pa.int64()),
        pa.field("psnr", pa.float32()),  # dB, of q8(T(x)) against the clean image
        pa.field("cluster", pa.int16()),  # cluster of the dictionary; -1: none
        pa.field("status", pa.string()),  # of the solve: converged, max_iterations, diverged; applied: no solve
    ]
)
"""One row per image for one (defense, attack set)."""

Cell = tuple[str, str]
"""Names of a defense and of an attack set."""


def aligned(tables: Mapping[Cell, pa.Table], classes: int) -> dict[Cell, dict[str, np.ndarray]]:
    """Columns of every table as arrays, in the order of the ids.

    Args:
        tables: the predictions of every (defense, attack set), rows in any order.
        classes: number of classes.

    Raises:
        InputError: if there is no table or no row, a value is missing, an id comes twice, a label or a prediction is
            not a class, or two tables differ in ids or labels.
    """
    columns = {cell: _sorted_columns(table, "/".join(cell), classes) for cell, table in tables.items()}
    if not columns:
        raise InputError("no predictions to score")
    first, reference = next(iter(columns.items()))
    for cell, arrays in columns.items():
        for name in ("id", "label"):
            if not np.array_equal(arrays[name], reference[name]):
                raise InputError(
                    f"predictions of different images: the {name} column differs",
                    item="/".join(cell),
                    expected=f"the {len(reference['id'])} images of {'/'.join(first)}",
                    got=f"{len(arrays['id'])} images",
                )
    return columns


def _sorted_columns(table: pa.Table, item: str, classes: int) -> dict[str, np.ndarray]:
    missing = [name for name in PREDICTIONS_SCHEMA.names if name not in table.column_names]
    if missing or table.num_rows == 0:
        raise InputError(
            "not a table of predictions", item=item, expected="rows of every column", got=missing or "none"
        )
    table = table.select(PREDICTIONS_SCHEMA.names).cast(PREDICTIONS_SCHEMA).sort_by("id")
    for name in PREDICTIONS_SCHEMA.names:
        if table.column(name).null_count:
            raise InputError("a prediction is missing", item=f"{item} {name}", got=f"{table.column(name).null_count}")
    columns = {name: table.column(name).to_numpy() for name in PREDICTIONS_SCHEMA.names}
    repeated = columns["id"][1:][columns["id"][1:] == columns["id"][:-1]]
    if len(repeated):
        raise InputError("an id comes twice", item=item, got=repeated[0])
    for name in ("label", "vanilla", "retrained", "vanilla_float", "retrained_float"):
        low, high = columns[name].min(), columns[name].max()
        least = 0 if name == "label" else NO_VERDICT
        if low < least or high >= classes:
            expected = f"classes {least} to {classes - 1}"
            raise InputError("no such class", item=f"{item} {name}", expected=expected, got=f"{low} to {high}")
    return columns
