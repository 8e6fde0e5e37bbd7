"""The images that the report shows: adversarial | purified | clean, evenly spaced over those of a kind, not picked.

spaced    of all images, the same under every attack set
saved     of those that are right behind the defense alone, under the set that is hardest for it
broken    of those that are right without the defense alone, when clean

An image that an attack or an evaluation set aside is not among them: all that is shown of an image is found by its id.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stl_ray.config import Experiment
from stl_ray.defenses import Transformation, record_of
from stl_ray.evaluation import UNDEFENDED
from stl_ray.images import decode, encode_png, to_tensor, to_uint8
from stl_ray.pipeline.batches import STORED_PIXELS, rows_by_id
from stl_ray.pipeline.defended import Block
from stl_ray.rightness import right
from stl_ray.store import Dataset, Layout, Storage
from stl_ray.store.layout import CLEAN
from stl_ray.store.shards import table_to_bytes

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int64()),
        ("attack", pa.string()),
        ("why", pa.string()),  # spaced, saved, broken
        ("defense", pa.string()),
        ("adversarial", pa.binary()),
        ("purified", pa.binary()),
        ("clean", pa.binary()),
        ("pred_before", pa.int64()),  # of the vanilla classifier on the adversarial image
        ("pred_after", pa.int64()),  # of the retrained classifier on the purified image
        ("right_before", pa.bool_()),
        ("refused_after", pa.bool_()),  # by the defense's detector, if it has one
        ("right_after", pa.bool_()),  # the class is right, or the image refused, as everywhere for attacked images
    ]
)


def write_gallery(
    experiment: Experiment,
    block: Block,
    clean: Dataset,
    attacked: Mapping[str, Dataset],
    predictions: Mapping[tuple[str, str], pa.Table],
) -> None:
    """Write the gallery of a block's last defense that has an image to show.

    Args:
        experiment: root, and number of images of a kind.
        block: the classifier with its defenses.
        clean: the clean test images.
        attacked: the adversarial sets by name.
        predictions: the tables of (none, set) and (defense, set), the clean images' among them.
    """
    *_, defense_name = (name for name, item in block.defended.items() if isinstance(item.defense, Transformation))
    model = block.models(defense_name)["retrained"]
    sets = {CLEAN: clean, **attacked}
    before = {name: _answers(predictions[UNDEFENDED, name], "vanilla", name) for name in sets}
    after = {name: _answers(predictions[defense_name, name], "retrained", name) for name in sets}
    labels = block.vanilla.classes.tolist()
    rows: list[dict[str, Any]] = []
    shown = _shown(experiment.evaluate.gallery, sets, before, after)
    originals = rows_by_id(clean, {identifier for ids in shown.values() for identifier in ids})
    for (name, why), ids in shown.items():
        adversarial = rows_by_id(sets[name], ids)
        for identifier in ids:
            row = adversarial[identifier]
            image = to_tensor([decode(row["image"]["bytes"], max_pixels=STORED_PIXELS)])
            purified = to_uint8(model.seen(record_of(model.purify(image, [identifier]))))[0]
            rows.append(
                {
                    "id": identifier,
                    "label": labels[row["label"]],
                    "attack": name,
                    "why": why,
                    "defense": defense_name,
                    "adversarial": row["image"]["bytes"],
                    "purified": encode_png(purified),
                    "clean": originals[identifier]["image"]["bytes"],
                    **{f"{what}_before": one for what, one in before[name][identifier].items() if what != "refused"},
                    **{f"{what}_after": one for what, one in after[name][identifier].items()},
                }
            )
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    Storage.open(experiment.root).write(Layout(experiment.root).gallery(block.name), table_to_bytes(table))


_Answers = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By set and id."""


def _shown(
    most: int, sets: Mapping[str, Dataset], before: _Answers, after: _Answers
) -> dict[tuple[str, str], list[str]]:
    """Ids by (set, why they are shown), of the images that every set and every table of predictions has.

    Saved images are of the set under which the fewest are right behind the defense, broken ones are clean.
    """
    ids: list[str] = sets[CLEAN].column("id")
    for others in (*(dataset.column("id") for dataset in sets.values()), *before.values(), *after.values()):
        kept = set(others)
        ids = [identifier for identifier in ids if identifier in kept]
    attacked = [name for name in sets if name != CLEAN]
    shown = {(name, "spaced"): ids for name in attacked}
    if attacked:
        hardest = min(attacked, key=lambda name: sum(after[name][identifier]["right"] for identifier in ids))
        shown[hardest, "saved"] = [one for one in ids if after[hardest][one]["right"] > before[hardest][one]["right"]]
    shown[CLEAN, "broken"] = [one for one in ids if after[CLEAN][one]["right"] < before[CLEAN][one]["right"]]
    return {key: _spaced(found, most) for key, found in shown.items()}


def _spaced(ids: Sequence[str], most: int) -> list[str]:
    """At most `most` of the ids, evenly spaced."""
    positions = np.linspace(0, len(ids) - 1, min(most, len(ids))).round().astype(int).tolist()
    return [ids[position] for position in positions]


def _answers(table: pa.Table, setting: str, name: str) -> dict[str, dict[str, Any]]:
    """By id, what a setting predicts for an image of a set, whether it is refused, and whether that is right."""
    ids, labels, predicted, rejected = (
        table.column(name).to_pylist() for name in ("id", "label", setting, f"{setting}_rejected")
    )
    held = right(predicted, labels, rejected, attacked=name != CLEAN).tolist()
    return {
        identifier: {"pred": prediction, "refused": refused, "right": kept}
        for identifier, prediction, refused, kept in zip(ids, predicted, rejected, held, strict=True)
    }
