"""Every prediction of an experiment as one tidy Parquet table, for pandas, DuckDB or R: a row for each image of each cell.

Rows are sorted by (classifier, setting, defense, attack, id), a row group for each cell, written one cell at a time. The cells are
those of the scores, and what they count is recounted from these rows: a table that would tell another story is refused.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stl_ray.config import Experiment
from stl_ray.errors import ArtifactError, StorageError
from stl_ray.report.inputs import Inputs, ScoredClassifier
from stl_ray.report.records import ScoreCell
from stl_ray.rightness import right
from stl_ray.store import Dataset, Layout, Storage
from stl_ray.store.layout import CLEAN
from stl_ray.store.runs import MANIFEST

PREDICTIONS = "predictions.parquet"
"""The file, beside the page."""

SCHEMA = pa.schema(
    [
        pa.field("classifier", pa.string()),
        pa.field("setting", pa.string()),  # vanilla or retrained
        pa.field("defense", pa.string()),  # none: no defense
        pa.field("attack", pa.string()),  # name of the set; clean: no attack
        pa.field("threat", pa.string()),  # the tier of the attack against this defense
        pa.field("id", pa.string()),
        pa.field("label", pa.int64()),  # a class of the classifier, as in the scores' class_names
        pa.field("prediction", pa.int64()),  # of the deployed pipeline; -1: the solve diverged
        pa.field("confidence", pa.float32()),  # softmax of the prediction, in [0, 1]; 0: the solve diverged
        pa.field("correct", pa.bool_()),  # by the one rule (`stl_ray.rightness`)
        pa.field("scored", pa.bool_()),  # whether the scores count the image: it is in every cell of its classifier
        pa.field("rejected", pa.bool_()),  # whether the defense's detector refused the image; no: there is none
        pa.field("score", pa.float32()),  # of the detector: above 1 the image is refused; 0: there is none
        pa.field("psnr", pa.float32()),  # dB, of what the classifier sees against the clean image; infinite: equal
        pa.field("cluster", pa.int16()),  # cluster of the dictionary; -1: none
        pa.field("clean_cluster", pa.int16()),  # that of the same image when clean; null: it was set aside there
        pa.field("status", pa.string()),  # of the solve: converged, max_iterations, diverged; applied: no solve
        # Of the attack, measured on the stored image; null of clean images, and where the set is not here.
        pa.field("dissimilarity", pa.float32()),  # ||x' - x|| / ||x||
        pa.field("l2", pa.float32()),  # ||x' - x|| in [0, 1] pixels
        pa.field("linf", pa.float32()),  # in [0, 1] pixels
        pa.field("attack_status", pa.string()),
        pa.field("attack_success", pa.bool_()),  # right when clean and wrong when attacked, on what it was crafted on
    ]
)

_MEASURED = {
    "dissimilarity": "dissimilarity", "l2": "l2", "linf": "linf", "status": "attack_status", "success": "attack_success",
}  # fmt: skip
"""Columns of an attack set, and what they are called here."""


def write_predictions(inputs: Inputs, root: Storage, out: Storage) -> None:
    """Write the table; in memory are one cell and what was measured of a classifier's attack sets.

    Args:
        inputs: of an experiment whose predictions are all there (`Inputs.predicted`).
        root: of the experiment.
        out: folder to write into.

    Raises:
        ArtifactError: the predictions are not those that the scores were counted from.
        AuditError: a part was altered.
        StorageError: a storage refuses, or the folder for temporary files.
    """
    try:
        with TemporaryDirectory(prefix="stl-ray-report-") as folder:
            file = Path(folder) / PREDICTIONS
            with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
                for block in sorted(inputs.blocks, key=lambda block: block.name):
                    for table in _Block.open(root, inputs.experiment, block).tables():
                        writer.write_table(table)
            out.write_file(PREDICTIONS, file)
    except OSError as error:  # storages raise errors of ours
        raise StorageError(
            f"the table cannot be made in the folder for temporary files ({error})", item=PREDICTIONS
        ) from error


@dataclass(frozen=True)
class _Block:
    """The predictions of a classifier.

    Attributes:
        root: of the experiment.
        block: the classifier and its scores.
        measured: by attack set, what was measured of its images, with their ids.
        scored: ids of the images that the scores count.
    """

    root: Storage
    block: ScoredClassifier
    measured: Mapping[str, pa.Table]
    scored: pa.Array

    @classmethod
    def open(cls, root: Storage, experiment: Experiment | None, block: ScoredClassifier) -> "_Block":
        layout, cells = Layout(root.root), block.scores.cells
        folders = [layout.predictions(block.name, *cell) for cell in {(cell.defense, cell.attack) for cell in cells}]
        common = reduce(set.intersection, (set(Dataset.open(layout.uri(folder)).column("id")) for folder in folders))
        ids = sorted(common)
        digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()
        if digest != block.scores.ids_sha256:
            raise ArtifactError(
                "the scores are not of these predictions; run `stl-ray evaluate` again", item=layout.scores(block.name),
                expected=f"ids of digest {digest}", got=block.scores.ids_sha256,
            )  # fmt: skip
        return cls(root, block, _measured(root, experiment, block.name), pa.array(ids, pa.string()))

    def tables(self) -> Iterator[pa.Table]:
        """The rows of every cell."""
        cells = sorted(self.block.scores.cells, key=lambda cell: (cell.setting, cell.defense, cell.attack))
        for defense, group in groupby(cells, key=lambda cell: cell.defense):
            clean = self._predictions(defense, CLEAN).select(["id", "cluster"]).rename_columns(["id", "clean_cluster"])
            for cell in group:
                yield self._tidy(cell, clean)

    def _tidy(self, cell: ScoreCell, clean: pa.Table) -> pa.Table:
        table, setting = self._predictions(cell.defense, cell.attack), cell.setting
        answers = [table[name].to_numpy() for name in (setting, "label", f"{setting}_rejected")]
        correct = pa.array(right(*answers, attacked=cell.attack != CLEAN))
        scored = pc.is_in(table["id"], value_set=self.scored)
        counted = [pc.sum(values).as_py() for values in (pc.and_(scored, correct), scored)]
        if counted != [cell.correct, cell.total]:
            raise ArtifactError(
                "the scores are not of these predictions; run `stl-ray evaluate` again",
                item=self._folder(cell.defense, cell.attack),
                expected=f"{cell.correct} right of {cell.total} in the setting {setting}", got=" of ".join(map(str, counted)),
            )  # fmt: skip
        named = {"classifier": self.block.name, "setting": setting, "defense": cell.defense, "attack": cell.attack}
        columns = {name: pa.repeat(value, table.num_rows) for name, value in (named | {"threat": cell.threat}).items()}
        columns |= {name: table[name] for name in ("id", "label", "psnr", "cluster", "status")}
        columns |= {"prediction": table[setting], "correct": correct, "scored": scored}
        columns |= {name: table[f"{setting}_{name}"] for name in ("confidence", "rejected", "score")}
        for other in (clean, self.measured.get(cell.attack)):
            columns |= {} if other is None else _of_the_same_ids(other, table["id"])
        absent = {field.name: pa.nulls(table.num_rows, field.type) for field in SCHEMA if field.name not in columns}
        return pa.Table.from_pydict(columns | absent, schema=SCHEMA)

    def _folder(self, defense: str, attack: str) -> str:
        layout = Layout(self.root.root)
        return layout.uri(layout.predictions(self.block.name, defense, attack))

    def _predictions(self, defense: str, attack: str) -> pa.Table:
        return pa.concat_tables(Dataset.open(self._folder(defense, attack)).tables()).sort_by("id")


def _measured(root: Storage, experiment: Experiment | None, classifier: str) -> dict[str, pa.Table]:
    """By attack set that a classifier is scored on, what was measured of its images; those that are not here are left out."""
    layout, found = Layout(root.root), {}
    for item in experiment.attack.sets if experiment else ():
        folder = layout.attacked(item.victim.classifier or classifier, item.name)
        if root.exists(f"{folder}/{MANIFEST}"):
            table = pa.concat_tables(Dataset.open(layout.uri(folder)).columns("id", *_MEASURED))
            found[item.name] = table.rename_columns(["id", *_MEASURED.values()])
    return found


def _of_the_same_ids(table: pa.Table, ids: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """The columns of another table for some ids, in their order; null where it has none."""
    rows = pc.index_in(ids, value_set=table["id"].combine_chunks())
    return {name: table[name].take(rows) for name in table.column_names if name != "id"}
