import pyarrow as pa
import pytest

from stl_ray.errors import AuditError, StorageError
from stl_ray.store import PlannedShard, Run, Storage, verify
from stl_ray.store.shards import ids_of, table_to_bytes

PLAN = [PlannedShard(number=n, source={}, rows=2, digest=str(n)) for n in range(3)]


def _finished(folder, tables) -> None:
    run = Run(Storage.open(str(folder)), "stage", "name")
    run.start(PLAN, identity={}, environment={})
    for shard, table in zip(PLAN, tables, strict=True):
        run.publish(shard, table, [], seconds=0, attempt=1, environment={})
    run.finish(max_quarantined=0)


def _table(number: int, schema: pa.Schema | None = None) -> pa.Table:
    return pa.table({"id": [f"{number}a", f"{number}b"], "image": [b"1", b"2"]}, schema)


def test_refuses_parts_of_different_schemas(tmp_path):
    plain = _table(0).schema
    named = plain.with_metadata({"huggingface": "{}"})
    _finished(tmp_path, [_table(0, plain), _table(1, named), _table(2, plain)])
    with pytest.raises(AuditError, match=r"failed: parts/part-00001-\w+\.parquet: another schema than the first"):
        verify(str(tmp_path))


def test_refuses_a_missing_part_and_counts_the_others(tmp_path):
    _finished(tmp_path, [_table(n) for n in range(3)])
    next((tmp_path / "parts").glob("part-00001-*")).unlink()
    seen = []
    with pytest.raises(AuditError, match=r"no such file; expected 6 planned rows; got 4 and 0 quarantined"):
        verify(str(tmp_path), lambda rows, total: seen.append((rows, total)))
    assert seen == [(2, 6), (0, 6), (2, 6)]


def test_refuses_a_shard_without_ids(tmp_path):
    storage = Storage.open(str(tmp_path))
    storage.write("part.parquet", table_to_bytes(pa.table({"image": [b"1"]})))
    with pytest.raises(StorageError, match=r"part\.parquet: a column is missing; expected id; got \['image'\]"):
        ids_of(storage, "part.parquet")
