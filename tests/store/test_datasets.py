"""Columns of a finished dataset, read without the images beside them."""

import numpy as np
import pyarrow as pa
import pytest

from stl_ray.errors import AuditError, StorageError
from stl_ray.store import Dataset, PlannedShard, Run, Storage
from stl_ray.store.local import LocalFiles

ROWS, IMAGE = 300, 20_000  # more than a row group, of images that do not compress


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return finished(str(tmp_path_factory.mktemp("run")))


def finished(folder: str) -> Dataset:
    run = Run(Storage.open(folder), "stage", "name")
    generator = np.random.default_rng(0)
    plan = [PlannedShard(number=n, source={}, rows=ROWS, digest=str(n)) for n in range(2)]
    run.start(plan, identity={}, environment={})
    for shard in plan:
        ids = [f"{shard.number}-{row}" for row in range(ROWS)]
        images = [{"bytes": generator.bytes(IMAGE), "path": None} for _ in ids]
        table = pa.table({"id": ids, "image": images, "label": [row % 7 for row in range(ROWS)]})
        run.publish(shard, table.replace_schema_metadata({"made": "by"}), [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)
    return Dataset.open(folder)


@pytest.fixture
def bytes_read(monkeypatch) -> list[int]:
    """Fills with what the storage gives."""
    counted: list[int] = []
    read = LocalFiles.read

    def counting(self, path, start=0, length=None):
        data = read(self, path, start, length)
        counted.append(len(data))
        return data

    monkeypatch.setattr(LocalFiles, "read", counting)
    return counted


def test_identity_the_first_rows_come_from_the_first_part_that_has_any(tmp_path):
    run = Run(Storage.open(str(tmp_path)), "stage", "name")
    plan = [PlannedShard(number=n, source={}, rows=rows, digest=str(n)) for n, rows in enumerate((0, 3, 2))]
    run.start(plan, identity={}, environment={})
    for shard in plan:
        table = pa.table({"id": pa.array([f"{shard.number}-{row}" for row in range(shard.rows)], pa.string())})
        run.publish(shard, table, [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)
    dataset = Dataset.open(str(tmp_path))
    assert [dataset.head(rows).column("id").to_pylist() for rows in (2, 9)] == [["1-0", "1-1"], ["1-0", "1-1", "1-2"]]


def test_agrees_columns_with_those_of_whole_tables(dataset):
    whole = list(dataset.tables())
    assert [table.equals(all_.select(["label", "id"])) for table, all_ in zip(
        dataset.columns("label", "id"), whole, strict=True
    )] == [True, True]  # fmt: skip
    assert dataset.column("id") == [name for table in whole for name in table.column("id").to_pylist()]
    assert dataset.schema.equals(whole[0].schema, check_metadata=True)


@pytest.mark.parametrize("ask", ["column", "columns", "columns_of", "schema"])
def test_invariant_a_column_is_read_without_the_images(dataset, bytes_read, ask):
    size = sum(part["bytes"] for part in dataset.parts)
    assert size > 2 * ROWS * IMAGE
    {
        "column": lambda: dataset.column("label"),
        "columns": lambda: list(dataset.columns("id", "label")),
        "columns_of": lambda: dataset.columns_of(dataset.parts[1], "id"),
        "schema": lambda: dataset.schema,
    }[ask]()
    # For each of two parts: the footer, and 64 KiB for every column of every row group.
    assert 0 < sum(bytes_read) < 0.1 * size


def test_refuses_a_column_that_is_not_there_and_a_part_with_other_rows(tmp_path):
    dataset = finished(str(tmp_path))
    with pytest.raises(StorageError, match=r"a column is missing; expected pixels; got \['id', 'image', 'label'\]"):
        dataset.column("pixels")
    first, second = dataset.parts
    other = Dataset(dataset.storage, {**dataset.manifest, "parts": [first, {**second, "rows": ROWS - 1}]})
    with pytest.raises(AuditError, match=f"the part was altered; expected {ROWS - 1} rows; got {ROWS}") as caught:
        other.column("id")
    assert second["file"] in str(caught.value.item)
