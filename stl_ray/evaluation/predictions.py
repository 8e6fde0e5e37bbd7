"""Prediction tables: one row per image for one (defense, attack set); validation and alignment."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from stl_ray.errors import InputError
from stl_ray.rightness import NO_VERDICT

TABLES_VERSION = 3
"""Of the tables of predictions, verdicts and probes; in the identity of their runs. 2: they say what was refused; 3: how sure."""

PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("label", pa.int64()),
        pa.field("vanilla", pa.int64()),  # the vanilla classifier on q8(T(x)), the deployed pipeline
        pa.field("retrained", pa.int64()),  # the defense's own classifier on it; for "none" the vanilla one
        pa.field("vanilla_float", pa.int64()),  # on T(x) without the rounding to 8 bits
        pa.field("retrained_float", pa.int64()),
        pa.field("vanilla_confidence", pa.float32()),  # softmax of the deployed prediction, in [0, 1]; 0: it diverged
        pa.field("retrained_confidence", pa.float32()),
        pa.field("vanilla_rejected", pa.bool_()),  # whether the defense's detector refused the image; no: there is none
        pa.field("retrained_rejected", pa.bool_()),
        pa.field("vanilla_score", pa.float32()),  # of the detector: above 1 the image is refused; 0: there is none
        pa.field("retrained_score", pa.float32()),
        pa.field("psnr", pa.float32()),  # dB, of q8(T(x)) against the clean image
        pa.field("cluster", pa.int16()),  # cluster of the dictionary; -1: none
        pa.field("status", pa.string()),  # of the solve: converged, max_iterations, diverged; applied: no solve
    ]
)
"""One row per image for one (defense, attack set)."""

Cell = tuple[str, str]
"""Names of a defense and of an attack set."""


def aligned(tables: Mapping[Cell, pa.Table], classes: int) -> dict[Cell, dict[str, np.ndarray]]:
    """Columns of every table as arrays, of the images that all tables have, in the order of the ids.

    An image that one run set aside leaves all rows: their accuracies and comparisons are on the same images.

    Args:
        tables: the predictions of every (defense, attack set), rows in any order.
        classes: number of classes.

    Raises:
        InputError: if there is no table or no row, a value is missing, an id comes twice, a label or a prediction is
            not a class, no image is in all tables, or an image has two labels.
    """
    whole = {cell: _sorted_columns(table, "/".join(cell), classes) for cell, table in tables.items()}
    if not whole:
        raise InputError("no predictions to score")
    first, common = next((cell, arrays["id"]) for cell, arrays in whole.items())
    for cell, arrays in whole.items():
        common = np.intersect1d(common, arrays["id"], assume_unique=True)
        if not len(common):
            raise InputError(
                "predictions of different images: none is in all tables",
                item="/".join(cell), expected=f"images of {'/'.join(first)}", got=f"{len(arrays['id'])} others",
            )  # fmt: skip
    # Both are sorted; np.isin would compare every id with every other.
    columns = {cell: _rows(arrays, np.searchsorted(arrays["id"], common)) for cell, arrays in whole.items()}
    for cell, arrays in columns.items():
        other = arrays["label"] != columns[first]["label"]
        if other.any():
            raise InputError(
                "the label of an image differs",
                item=f"{'/'.join(cell)} {common[other][0]}",
                expected=f"{columns[first]['label'][other][0]}, as in {'/'.join(first)}",
                got=arrays["label"][other][0],
            )
    return columns


def _rows(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in columns.items()}


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
