"""The images that the report shows: adversarial | purified | clean, evenly spaced over the test set, not picked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from stl_ray.config import Experiment
from stl_ray.defenses import Defended
from stl_ray.evaluation import UNDEFENDED
from stl_ray.images import decode, encode_png, to_tensor, to_uint8
from stl_ray.pipeline.batches import STORED_PIXELS, rows_at
from stl_ray.store import Dataset, Layout, Storage
from stl_ray.store.shards import table_to_bytes

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int64()),
        ("attack", pa.string()),
        ("defense", pa.string()),
        ("adversarial", pa.binary()),
        ("purified", pa.binary()),
        ("clean", pa.binary()),
        ("pred_before", pa.int64()),  # of the vanilla classifier on the adversarial image
        ("pred_after", pa.int64()),  # of the retrained classifier on the purified image
    ]
)


def write_gallery(
    experiment: Experiment,
    clean: Dataset,
    attacked: Mapping[str, Dataset],
    defense_name: str,
    model: Defended,
    predictions: Mapping[tuple[str, str], pa.Table],
) -> None:
    """Write the gallery of one defense: every attack set on the same few images.

    Args:
        experiment: root and number of images.
        clean: the clean test images.
        attacked: the adversarial sets by name.
        defense_name: the defense's name in `predictions`.
        model: the defense, with the classifier behind it.
        predictions: the tables of (none, set) and (defense, set).
    """
    count = min(experiment.evaluate.gallery, clean.rows)
    positions = np.linspace(0, clean.rows - 1, count).round().astype(int).tolist()
    originals = rows_at(clean, positions)
    rows: list[dict[str, Any]] = []
    for name, dataset in attacked.items():
        before = _column(predictions[UNDEFENDED, name], "vanilla")
        after = _column(predictions[defense_name, name], "retrained")
        for row, original in zip(rows_at(dataset, positions), originals, strict=True):
            image = to_tensor([decode(row["image"]["bytes"], max_pixels=STORED_PIXELS)])
            purified = to_uint8(model.seen(model.purify(image, [row["id"]])))[0]
            rows.append(
                {
                    "id": row["id"],
                    "label": row["label"],
                    "attack": name,
                    "defense": defense_name,
                    "adversarial": row["image"]["bytes"],
                    "purified": encode_png(purified),
                    "clean": original["image"]["bytes"],
                    "pred_before": before[row["id"]],
                    "pred_after": after[row["id"]],
                }
            )
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    Storage.open(experiment.root).write(Layout.gallery, table_to_bytes(table))


def _column(table: pa.Table, name: str) -> dict[str, int]:
    return dict(zip(table.column("id").to_pylist(), table.column(name).to_pylist(), strict=True))
